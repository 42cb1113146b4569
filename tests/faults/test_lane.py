"""A lane delivers everything once, in order, whatever its destination does."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.faults.fake import FakeDestination, Gate, Point, Rig, until
from trackside.errors import RefusedError, RejectedError, RetryableError, UnauthorisedError
from trackside.journal.cursor import load_cursor
from trackside.journal.format import ConfigRecord, LifecycleRecord, MetricsRecord
from trackside.shipper.rejects import RejectedFile, halves
from trackside.shipper.retry import Policy
from trackside.status import Evidence

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def rig(tmp_path: Path):
    """A journal and a lane that was not started yet."""
    rig = Rig(tmp_path)
    yield rig
    rig.lane.stop()
    if rig.lane.ident is not None:
        rig.join()
    rig.writer.close()


def rejected(rig: Rig) -> list[dict[str, Any]]:
    """The lines of ``rejected.jsonl``."""
    return [json.loads(line) for line in rig.journal.rejected.read_text().splitlines()]


def refuse_poison(call: str, points: list[Point]) -> None:
    """Reject each batch that holds a point named ``poison``."""
    if any(name == "poison" for name, _, _ in points):
        raise RejectedError("no poison here")


def test_everything_arrives_and_the_end_is_settled(rig: Rig) -> None:
    """Samples, config, lifecycle; then the final verdict with the counts."""
    rig.writer.append(ConfigRecord(0, 1, {"lr": "1"}, {"lr": 1}))
    rig.emit(250)
    rig.writer.append(LifecycleRecord(0, 1, "finished", status="FINISHED"))
    rig.lane.start()
    rig.finish()
    assert len(rig.destination.points) == 250
    assert [record.params for record in rig.destination.configs] == [{"lr": "1"}]
    assert [record.kind for record in rig.lifecycle] == ["finished"]
    ((verdict, counts, seen),) = rig.destination.settled
    assert (verdict.status, verdict.final, seen) == ("FINISHED", True, 250)
    assert counts == {"emitted": 250, "shipped": 250, "dropped": 0, "rejected": 0, "damaged": 0}
    assert rig.destination.closed == 1


def test_one_poisonous_point_is_set_aside_alone(rig: Rig) -> None:
    """Its neighbours in batch and sample arrive; it is counted and kept with the reason."""
    rig.destination.refuse = refuse_poison
    rig.emit(40)
    rig.emit(1, start=40, poison=6.0, lr=0.1)
    rig.emit(40, start=41)
    rig.lane.start()
    rig.finish()
    assert len(rig.destination.points) == 82
    assert rig.destination.settled[-1][1]["rejected"] == 1
    assert rig.destination.settled[-1][1]["shipped"] == 82
    (entry,) = rejected(rig)
    assert (entry["metrics"], entry["step"]) == ({"poison": 6.0}, 40)
    assert entry["error"] == "no poison here"
    assert rig.journal.rejected.stat().st_mode & 0o777 == 0o600


def test_a_rejected_nan_is_kept_as_one(rig: Rig) -> None:
    """JSON has no NaN, and null would say something else."""
    rig.destination.refuse = refuse_poison
    rig.emit(1, poison=float("nan"))
    rig.lane.start()
    rig.finish()
    assert rejected(rig)[0]["metrics"] == {"poison": "nan"}


@pytest.mark.parametrize("named", [False, True])
def test_a_poisonous_epoch_takes_no_metric_with_it(rig: Rig, named: bool) -> None:
    """The epoch is a point like any other; where a metric has its name, that one counts."""

    def refuse(call: str, points: list[Point]) -> None:
        if any(name == "epoch" for name, _, _ in points):
            raise RejectedError("no epoch here")

    rig.destination.refuse = refuse
    metrics = {"loss": 1.0, "lr": 0.1, **({"epoch": 7.0} if named else {})}
    rig.writer.append(MetricsRecord(0, 1, 3, 2.0, None, metrics))
    rig.lane.start()
    rig.finish()
    assert rig.destination.points == {("loss", 3, 1.0), ("lr", 3, 0.1)}
    (entry,) = rejected(rig)
    assert entry["metrics"] == {"epoch": 7.0 if named else 2.0}
    assert rig.lane.counts()["emitted"] == 3


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
    """Whatever points are poisonous and whenever the server fails: taken + set aside = emitted."""
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
    rig.lane.start()
    rig.finish()
    rig.writer.close()
    aside = {(name, e["step"]) for e in (rejected(rig) if poison else []) for name in e["metrics"]}
    assert aside == {("lr", step) for step in poison}
    assert len(rig.destination.points) == 60 - len(poison)
    assert rig.lane.counts()["shipped"] == 60 - len(poison)
    assert rig.lane.counts()["rejected"] == len(poison)


def test_the_cursor_never_passes_what_was_not_delivered(rig: Rig) -> None:
    """While a batch is refused for the moment the cursor stands still, and goes on behind it."""
    down = True

    def refuse(call: str, points: list[Point]) -> None:
        if down and any(step >= 100 for _, step, _ in points):
            raise RetryableError("down")

    rig.destination.refuse = refuse
    rig.emit(300)
    rig.lane.start()
    until(lambda: len(rig.destination.batches) > 20)
    assert load_cursor(rig.journal.cursor("fake")).position.seq == 100
    assert load_cursor(rig.journal.cursor("fake")).shipped == 100
    assert rig.lane.failing == "down"
    down = False
    rig.finish()
    assert load_cursor(rig.journal.cursor("fake")).position.seq == 300
    assert rig.lane.failing is None


def test_a_stop_in_the_middle_leaves_the_rest_to_the_next(rig: Rig) -> None:
    """A lane that is stopped while it retries ends at once; another one delivers what is left, once."""
    rig.destination.refuse = lambda call, points: _raise_if(call == "metrics")
    rig.emit(50)
    rig.lane = rig.new_lane(Policy(base=1000.0, cap=1000.0))
    rig.lane.start()
    until(lambda: rig.lane.failing is not None)
    rig.lane.stop()
    rig.join(5)
    assert not rig.lane.finished
    assert rig.lane.refused is None
    rig.destination.refuse = lambda call, points: None
    rig.lane = rig.new_lane()
    rig.lane.start()
    rig.finish()
    assert len(rig.destination.points) == 50
    assert rig.lane.counts()["shipped"] == 50


def _raise_if(failing: bool) -> None:
    if failing:
        raise RetryableError("down")


def test_a_second_shipper_counts_nothing_twice(rig: Rig) -> None:
    """Killed between delivery and acknowledgement: sent again, counted once, set aside once."""
    rig.destination.refuse = refuse_poison
    rig.emit(10, poison=1.0)
    rig.lane.start()
    until(lambda: rig.lane.cursor.position.seq == 10)
    rig.lane.stop()
    rig.join()
    rig.journal.cursor("fake").unlink()  # as if it had not been saved
    rig.lane = rig.new_lane()
    rig.lane.start()
    rig.finish()
    assert rig.lane.counts()["shipped"] == rig.lane.counts()["rejected"] == 10
    assert len(rejected(rig)) == 10


def test_a_torn_line_of_the_rejected_file_is_no_obstacle(tmp_path: Path) -> None:
    """After a power cut the last line may be half a line."""
    path = tmp_path / "rejected.jsonl"
    record = MetricsRecord(1, 1, 1, None, None, {"a": 1.0})
    RejectedFile(path, "fake", after_seq=0).add(record, "no")
    path.write_bytes(path.read_bytes() + b'{"destination": "fa\n[1]\n')
    RejectedFile(path, "fake", after_seq=0).add(record, "no")
    assert path.read_bytes().count(b"\n") == 3


def test_saving_durably_at_any_moment_keeps_counts_and_position_together(rig: Rig) -> None:
    """The thread that deletes segments saves the cursor too, in the middle of a batch for instance."""
    gate = Gate()
    halfway: list[int] = []

    def refuse(call: str, points: list[Point]) -> None:
        if len(points) == 1:
            raise RejectedError("single")
        if call == "metrics" and not halfway and len(points) < 50:
            halfway.append(1)
        elif call == "metrics" and halfway and len(halfway) < 2:
            halfway.append(2)
            gate()  # one half is delivered, the other is not
        if call == "metrics" and len(points) > 50:
            raise RejectedError("too many")

    rig.destination.refuse = refuse
    rig.emit(80)
    rig.lane.start()
    assert gate.reached.wait(20)
    rig.lane.save_durably()
    kept = load_cursor(rig.journal.cursor("fake"))
    assert (kept.position.seq, kept.shipped) == (0, 0)
    gate.opened.set()
    rig.finish()
    assert rig.lane.counts()["shipped"] == 80


def test_a_full_disk_is_waited_out(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither the cursor nor ``rejected.jsonl`` can be written for a while; nothing breaks or is lost."""
    full = True
    real = RejectedFile.add

    def add(self: RejectedFile, record: Any, reason: str) -> None:
        if full:
            raise OSError(28, "No space left on device")
        real(self, record, reason)

    monkeypatch.setattr(RejectedFile, "add", add)
    monkeypatch.setattr("trackside.shipper.lane.save_cursor", _no_space)
    rig.destination.refuse = refuse_poison
    rig.emit(3)
    rig.lane.start()
    until(lambda: rig.lane.cursor.position.seq == 3)  # in memory, at least
    rig.emit(1, start=3, poison=1.0)
    until(lambda: "No space" in (rig.lane.failing or ""))
    full = False
    rig.finish()
    assert rig.lane.counts()["rejected"] == len(rejected(rig)) == 1


def _no_space(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_opening_is_retried_for_ever_unless_refused(rig: Rig) -> None:
    """A server that is down at the start is waited for; a lasting refusal ends the lane with its words."""
    attempts = iter(range(100))
    rig.destination.refuse = lambda call, points: _raise_if(call == "open" and next(attempts) < 30)
    rig.lane.start()
    until(lambda: rig.lane.opened)
    assert rig.destination.opened == 31
    rig.finish()


def test_a_refused_opening_ends_the_lane(rig: Rig) -> None:
    """Nothing is tried a second time."""
    rig.destination.refuse = _refuse_all("experiment is deleted", RejectedError)
    rig.lane.start()
    rig.join()
    assert rig.lane.refused == "experiment is deleted"
    assert rig.destination.opened == 1
    assert rig.destination.closed == 1


def _refuse_all(text: str, kind: type[Exception], only: str | None = None) -> Any:
    def refuse(call: str, points: list[Point]) -> None:
        if only in {None, call}:
            raise kind(text)

    return refuse


def test_a_run_that_is_gone_is_not_bisected(rig: Rig) -> None:
    """Points meant for a deleted run stay in the journal, all of them, and the cursor before them."""
    rig.destination.refuse = _refuse_all("the run was deleted", RefusedError, "metrics")
    rig.emit(500)
    rig.lane.start()
    rig.join()
    assert rig.lane.refused == "the run was deleted"
    assert len(rig.destination.batches) == 1
    assert not rig.journal.rejected.exists()
    assert load_cursor(rig.journal.cursor("fake")).position.seq == 0


def test_a_refused_heartbeat_holds_up_no_metric(rig: Rig) -> None:
    """Only the points matter."""
    rig.destination.refuse = _refuse_all("no tags today", RejectedError, "idle")
    rig.lane.start()
    until(lambda: rig.destination.idled > 1)
    rig.emit(5)
    rig.finish()
    assert len(rig.destination.points) == 5


def test_a_refused_config_is_kept(rig: Rig) -> None:
    """It goes to ``rejected.jsonl`` whole; the metrics behind it arrive."""
    rig.destination.refuse = _refuse_all("no", RejectedError, "config")
    rig.writer.append(ConfigRecord(0, 1, {"lr": "1"}, {"lr": 1}))
    rig.emit(5)
    rig.lane.start()
    rig.finish()
    assert rejected(rig)[0]["document"] == {"lr": 1}
    assert len(rig.destination.points) == 5


def test_idle_is_called_under_a_backlog_too(rig: Rig) -> None:
    """A run that emits faster than the server takes still shows its heartbeat."""
    rig.destination.batch_points = 1
    rig.emit(50)
    rig.lane.start()
    rig.finish()
    assert rig.destination.idled >= 49


def test_a_broken_destination_is_reported(rig: Rig) -> None:
    """An error nobody foresaw ends the lane with its name, not in silence."""
    rig.destination.refuse = _refuse_all("oops", ZeroDivisionError, "metrics")
    rig.emit(1)
    rig.lane.start()
    rig.join()
    assert rig.lane.refused == "ZeroDivisionError: oops"


def test_a_nudge_cuts_a_backoff_short_but_no_wish_of_the_server(rig: Rig) -> None:
    """``flush()`` makes the shipper try now, unless the server asked to be left alone."""
    rig.destination.refuse = lambda call, points: _raise_if(call == "metrics")
    rig.emit(1)
    rig.lane = rig.new_lane(Policy(base=1000.0, cap=1000.0))
    rig.lane.start()
    until(lambda: rig.lane.failing is not None)
    tries = len(rig.destination.batches)
    rig.lane.wake.set()
    until(lambda: len(rig.destination.batches) > tries)
    rig.destination.refuse = _wish
    rig.lane.wake.set()
    until(lambda: rig.lane.failing == "429")
    tries = len(rig.destination.batches)
    for _ in range(10):
        rig.lane.wake.set()
        time.sleep(0.01)
    assert len(rig.destination.batches) == tries


def _wish(call: str, points: list[Point]) -> None:
    raise RetryableError("429", retry_after=500.0)


def test_a_server_that_names_its_time_is_asked_then(rig: Rig) -> None:
    """Not before, and not much later."""
    times: list[float] = []

    def refuse(call: str, points: list[Point]) -> None:
        if call == "metrics":
            times.append(time.monotonic())
            if len(times) < 3:
                raise RetryableError("429", retry_after=0.3)

    rig.destination.refuse = refuse
    rig.emit(1)
    rig.lane.start()
    until(lambda: len(times) == 3)
    rig.finish()
    assert all(b - a >= 0.3 for a, b in zip(times, times[1:], strict=False))


def test_bad_credentials_are_tried_at_their_own_slow_pace(rig: Rig) -> None:
    """The floor holds for them alone."""
    times: list[float] = []

    def refuse(call: str, points: list[Point]) -> None:
        if call == "metrics":
            times.append(time.monotonic())
            if len(times) < 3:
                raise UnauthorisedError("401")

    rig.destination.refuse = refuse
    rig.emit(1)
    rig.lane.start()
    until(lambda: len(times) == 3)
    rig.finish()
    assert all(b - a >= 0.05 for a, b in zip(times, times[1:], strict=False))


def test_a_provisional_verdict_is_shown_at_once_the_final_one_behind_the_last_point(
    rig: Rig,
) -> None:
    """SIGTERM shows KILLED while the process lives; the final word waits until all is delivered."""
    gate = Gate()

    def refuse(call: str, points: list[Point]) -> None:
        if any(step == 7 for _, step, _ in points):
            gate()

    rig.lane.start()
    rig.evidence = Evidence(signals={int(signal.SIGTERM): 1})
    until(lambda: bool(rig.destination.settled))
    assert [(v.status, v.final) for v, _, _ in rig.destination.settled] == [("KILLED", False)]
    rig.destination.refuse = refuse
    rig.emit(10)
    assert gate.reached.wait(20)
    rig.die(signals={int(signal.SIGTERM): 1}, killed_by=int(signal.SIGKILL))
    time.sleep(0.05)
    assert len(rig.destination.settled) == 1
    gate.opened.set()
    rig.join()
    verdict, counts, seen = rig.destination.settled[-1]
    assert (verdict.status, verdict.final, seen) == ("KILLED", True, 10)
    assert "SIGKILL" in verdict.reason
    assert counts["shipped"] == 10


def test_a_worse_verdict_is_settled_again(rig: Rig) -> None:
    """A crash seen in a thread first, the death that follows after it."""
    rig.lane.start()
    rig.evidence = Evidence(exited=True, exit_code=0)
    until(lambda: len(rig.destination.settled) == 1)
    rig.die(exited=True, exit_code=3)
    rig.join()
    assert [v.status for v, _, _ in rig.destination.settled] == ["FINISHED", "FAILED"]


def test_an_unchanged_verdict_is_settled_once(rig: Rig) -> None:
    """No request a poll while a terminated process takes its time to leave."""
    rig.evidence = Evidence(signals={int(signal.SIGTERM): 1})
    rig.lane.start()
    until(lambda: rig.destination.idled > 3)
    assert len(rig.destination.settled) == 1
    rig.die(signals={int(signal.SIGTERM): 1})
    rig.join()


def test_settling_is_retried(rig: Rig) -> None:
    """The server goes down just before the end: the status is set when it is back."""
    tries = iter(range(100))
    rig.destination.refuse = lambda call, points: _raise_if(call == "settle" and next(tries) < 20)
    rig.emit(5)
    rig.lane.start()
    rig.finish()
    assert [v.status for v, _, _ in rig.destination.settled] == ["FINISHED"]
