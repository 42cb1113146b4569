"""What a destination will never take is rejected, down to the point, and nothing else is held up."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.fake import (
    FakeDestination,
    Point,
    Rig,
    refuse_all,
    refuse_poison,
    rejected,
    until,
)
from trackside.errors import DestinationFailedError, RejectedError, RetryableError
from trackside.journal.cursor import load_cursor
from trackside.journal.format import ConfigRecord, MetricsRecord
from trackside.shipper.dead_letters import RejectedFile
from trackside.shipper.search import halves

if TYPE_CHECKING:
    from pathlib import Path


def test_one_poisonous_point_is_set_aside_alone(rig: Rig) -> None:
    """Its neighbours in batch and sample arrive. It is counted and kept with the reason."""
    rig.destination.refuse = refuse_poison
    rig.emit(40)
    rig.emit(1, start=40, poison=6.0, lr=0.1)
    rig.emit(40, start=41)
    rig.deliver()
    assert len(rig.destination.points) == 82
    assert rig.destination.ends[-1][0].counts["rejected"] == 1
    assert rig.destination.ends[-1][0].counts["shipped"] == 82
    (entry,) = rejected(rig)
    assert (entry["metrics"], entry["step"]) == ({"poison": 6.0}, 40)
    assert entry["error"] == "no poison here"
    assert rig.journal.rejected.stat().st_mode & 0o777 == 0o600


def test_a_rejected_nan_is_kept_as_one(rig: Rig) -> None:
    """JSON has no NaN, and null would say something else."""
    rig.destination.refuse = refuse_poison
    rig.emit(1, poison=float("nan"))
    rig.deliver()
    assert rejected(rig)[0]["metrics"] == {"poison": "nan"}


@pytest.mark.parametrize("named", [False, True])
def test_a_poisonous_epoch_takes_no_metric_with_it(rig: Rig, named: bool) -> None:
    """The epoch is a point like any other. Where a metric has its name, that one counts."""

    def refuse(call: str, points: list[Point]) -> None:
        if any(name == "epoch" for name, _, _ in points):
            raise RejectedError("no epoch here")

    rig.destination.refuse = refuse
    metrics = {"loss": 1.0, "lr": 0.1, **({"epoch": 7.0} if named else {})}
    rig.writer.append(MetricsRecord(0, 1, 3, 2.0, None, metrics))
    rig.deliver()
    assert rig.destination.points == {("loss", 3, 1.0), ("lr", 3, 0.1)}
    (entry,) = rejected(rig)
    assert entry["metrics"] == {"epoch": 7.0 if named else 2.0}
    assert rig.worker.counts()["emitted"] == 3


names = st.sampled_from(["a", "b", "c", "epoch", "v/epoch"])


@given(
    metrics=st.dictionaries(names, st.floats(allow_nan=False), max_size=5),
    epoch=st.none() | st.floats(0, 9),
    prefix=st.sampled_from([None, "v"]),
)
def test_halving_loses_and_doubles_nothing(
    metrics: dict[str, float], epoch: float | None, prefix: str | None
) -> None:
    """The parts of a record, down to single points, are its points."""
    record = MetricsRecord(1, 1, 1, epoch, prefix, metrics)
    parts = [[record]]
    whole: list[tuple[str, float]] = []
    while parts:
        part = parts.pop()
        smaller = halves(part)
        parts.extend(smaller)
        if not smaller:
            assert len(part) == 1
            assert part[0].points <= 1
            whole.extend(part[0].named_values().items())
    assert sorted(whole) == sorted(record.named_values().items())


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_what_is_refused_and_what_is_taken_add_up(tmp_path: Path, data: st.DataObject) -> None:
    """Whatever points are poisonous and whenever the server fails: taken + rejected = emitted."""
    rig = Rig(tmp_path, FakeDestination(batch_points=data.draw(st.integers(1, 40))))
    poison = data.draw(st.sets(st.integers(0, 29), max_size=8))
    failures = data.draw(st.sets(st.integers(0, 40), max_size=10))
    calls = iter(range(10**6))

    def refuse(call: str, points: list[Point]) -> None:
        if next(calls) in failures:
            raise RetryableError("busy")
        if any(name == "lr" and step in poison for name, step, _ in points):
            raise RejectedError("poison")

    rig.destination.refuse = refuse
    rig.emit(30, lr=0.1)
    rig.deliver()
    rig.writer.close()
    aside = {(name, e["step"]) for e in (rejected(rig) if poison else []) for name in e["metrics"]}
    assert aside == {("lr", step) for step in poison}
    assert len(rig.destination.points) == 60 - len(poison)
    assert rig.worker.counts()["shipped"] == 60 - len(poison)
    assert rig.worker.counts()["rejected"] == len(poison)


def test_a_second_shipper_counts_nothing_twice(rig: Rig) -> None:
    """Killed between delivery and acknowledgement: sent again, counted once, rejected once."""
    rig.destination.refuse = refuse_poison
    rig.emit(10, poison=1.0)
    rig.worker.start()
    until(lambda: rig.worker.cursor.position.seq == 10)
    rig.worker.calls.stop()
    rig.join()
    rig.journal.cursor("fake").unlink()  # as if it had not been saved
    rig.worker = rig.new_worker()
    rig.deliver()
    assert rig.worker.counts()["shipped"] == rig.worker.counts()["rejected"] == 10
    assert len(rejected(rig)) == 10


def test_a_torn_line_of_the_rejected_file_is_no_obstacle(tmp_path: Path) -> None:
    """After a power cut the last line may be half a line."""
    path = tmp_path / "rejected.jsonl"
    record = MetricsRecord(1, 1, 1, None, None, {"a": 1.0})
    RejectedFile(path, "fake", after_seq=0).add(record, "no")
    path.write_bytes(path.read_bytes() + b'{"destination": "fa\n[1]\n')
    RejectedFile(path, "fake", after_seq=0).add(record, "no")
    assert path.read_bytes().count(b"\n") == 3


ODD_LINES = [
    '{"destination": "fake", "seq": Infinity, "metrics": {}}',
    '{"destination": "fake", "seq": NaN, "metrics": {}}',
    '{"destination": "fake", "seq": ' + "9" * 5000 + ', "metrics": {}}',
    "[" * 100_000,
    '{"destination": {}, "seq": 1, "params": [[], {}]}',
    "null",
    "\ufffe",
]


def test_odd_values_in_the_rejected_file_stop_nothing(rig: Rig) -> None:
    """Whatever was written into it, and whatever a configuration holds: it is read, and added to."""
    nested: dict[str, Any] = {}
    for _ in range(400):
        nested = {"deeper": nested}
    rig.journal.rejected.write_text("\n".join(ODD_LINES) + "\n")
    file = RejectedFile(rig.journal.rejected, "fake", after_seq=0)
    odd = {"rate": math.inf, "big": 2**64 - 1, "bytes": b"\xff", "keys": {1.5: math.nan}, "deep": nested}
    file.add(ConfigRecord(7, 1, {"rate": "inf"}, odd), "refused \ud83d")
    line = json.loads(rig.journal.rejected.read_text().splitlines()[-1])
    assert line["error"] == "refused \\ud83d"
    assert line["document"]["rate"] == "inf"
    assert line["document"]["keys"] == {"1.5": "nan"}
    assert line["document"]["deep"]["deeper"]["deeper"]
    again = RejectedFile(rig.journal.rejected, "fake", after_seq=0)
    again.add(ConfigRecord(7, 1, {"rate": "inf"}, odd), "refused")
    assert len(rig.journal.rejected.read_text().splitlines()) == len(ODD_LINES) + 1


def test_a_full_disk_is_waited_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the cursor nor ``rejected.jsonl`` can be written for a while. Nothing breaks or is lost."""
    full = True
    real = RejectedFile.add

    def add(self: RejectedFile, record: Any, reason: str) -> None:
        if full:
            raise OSError(28, "No space left on device")
        real(self, record, reason)

    monkeypatch.setattr(RejectedFile, "add", add)
    monkeypatch.setattr("trackside.journal.cursor.write_even_when_full", _no_space)
    rig.destination.refuse = refuse_poison
    rig.emit(3)
    rig.worker.start()
    until(lambda: rig.worker.cursor.position.seq == 3)  # in memory, at least
    rig.emit(1, start=3, poison=1.0)
    until(lambda: "No space" in (rig.worker.failing or ""))
    full = False
    rig.finish()
    assert rig.worker.counts()["rejected"] == len(rejected(rig)) == 1


def _no_space(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_run_that_is_gone_is_not_bisected(rig: Rig) -> None:
    """Points meant for a deleted run stay in the journal, all of them, and the cursor before them."""
    rig.destination.refuse = refuse_all("the run was deleted", DestinationFailedError, "metrics")
    rig.emit(500)
    rig.worker.start()
    rig.join()
    assert rig.worker.refused == "the run was deleted"
    assert len(rig.destination.batches) == 1
    assert not rig.journal.rejected.exists()
    assert load_cursor(rig.journal.cursor("fake")).position.seq == 0


def test_a_refused_config_is_kept(rig: Rig) -> None:
    """It goes to ``rejected.jsonl`` whole. The metrics behind it arrive."""
    rig.destination.refuse = refuse_all("no", RejectedError, "config")
    rig.writer.append(ConfigRecord(0, 1, {"lr": "1"}, {"lr": 1}))
    rig.emit(5)
    rig.deliver()
    assert rejected(rig)[0]["document"] == {"lr": 1}
    assert len(rig.destination.points) == 5
