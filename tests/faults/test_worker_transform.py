"""A worker whose destination wants its metrics transformed, or knows how far it got."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.faults.fake import FakeDestination, Point, Rig, raise_if, until
from tests.journal.tools import small_segments
from trackside.errors import RejectedError
from trackside.events import MetricLink
from trackside.journal.cursor import Cursor, load_cursor, save_cursor
from trackside.journal.format import LinkedMetricsRecord, MetricsRecord
from trackside.journal.reader import Position
from trackside.shipper.retry import Policy
from trackside.transform import Transform

if TYPE_CHECKING:
    from pathlib import Path


def steps(rig: Rig) -> list[int]:
    """Those that were delivered."""
    return sorted(step for _, step, _ in rig.destination.points)


def test_windows_are_delivered_once_they_close_and_the_last_one_at_the_end(rig: Rig) -> None:
    """Every tenth step. What the others had is counted, and all of it adds up."""
    rig.worker = rig.new_worker(transform=Transform(every_n_steps=10))
    rig.emit(25)
    rig.worker.start()
    until(lambda: load_cursor(rig.journal.cursor("fake")).position.seq == 25)
    assert steps(rig) == [9, 19], "the window from 20 on is open"
    rig.finish()
    assert steps(rig) == [9, 19, 24]
    counts = rig.worker.counts()
    assert (counts["shipped"], counts["merged"], counts["emitted"]) == (3, 22, 25)


def test_an_open_window_survives_a_restart(rig: Rig) -> None:
    """The mean over a window is that of all its points, whichever shipper read them."""
    transform = Transform(every_n_steps=10, reduce="mean")
    rig.worker = rig.new_worker(transform=transform)
    rig.emit(7)
    rig.worker.start()
    until(lambda: load_cursor(rig.journal.cursor("fake")).position.seq == 7)
    rig.worker.calls.stop()
    rig.join()
    rig.worker = rig.new_worker(transform=transform)
    rig.emit(3, start=7)
    rig.deliver()
    assert rig.destination.points == {("loss", 9, sum(step / 2 for step in range(10)) / 10)}
    assert rig.worker.counts()["emitted"] == 10


def test_linked_metrics_keep_their_link_unless_a_window_takes_them(rig: Rig) -> None:
    """Renamed metrics still belong to their model. A mean over ten steps belongs to none."""
    rig.worker = rig.new_worker(transform=Transform(rename={"loss": "error"}, exclude=("drop",)))
    metrics = {"loss": 0.5, "drop": 1.0}
    rig.writer.append(LinkedMetricsRecord(0, 1, 1, None, None, metrics, MetricLink("m-1")))
    rig.writer.append(MetricsRecord(0, 1, 2, None, None, metrics))
    rig.deliver()
    assert rig.destination.records == [
        LinkedMetricsRecord(1, 1, 1, None, None, {"error": 0.5}, MetricLink("m-1")),
        MetricsRecord(2, 1, 2, None, None, {"error": 0.5}),
    ]


def test_a_shaped_batch_is_sent_again_as_it_was(rig: Rig) -> None:
    """A destination that is down for a moment gets the same points. None is transformed twice."""
    attempts = iter(range(1000))
    rig.destination.refuse = lambda call, points: raise_if(call == "metrics" and next(attempts) < 5)
    rig.worker = rig.new_worker(transform=Transform(every_n_steps=2))
    rig.emit(20)
    rig.deliver()
    assert steps(rig) == list(range(1, 20, 2))
    assert rig.worker.counts()["merged"] == 10


def test_what_is_excluded_is_counted(rig: Rig) -> None:
    """Names are those delivered. Nothing is left out silently."""
    rig.worker = rig.new_worker(transform=Transform(include=("lo*",), prefix="run"))
    rig.emit(5, lr=0.1)
    rig.deliver()
    assert {name for name, _, _ in rig.destination.points} == {"run/loss"}
    counts = rig.worker.counts()
    assert (counts["shipped"], counts["merged"], counts["emitted"]) == (5, 5, 10)


def test_a_shaped_point_that_is_refused_is_set_aside(rig: Rig) -> None:
    """Under the name it was to be delivered by."""

    def refuse(call: str, points: list[Point]) -> None:
        if any(step == 3 for _, step, _ in points):
            raise RejectedError("not that one")

    rig.destination.refuse = refuse
    rig.worker = rig.new_worker(transform=Transform(prefix="run"))
    rig.emit(5)
    rig.deliver()
    assert "run/loss" in rig.journal.rejected.read_text()
    assert (rig.worker.counts()["shipped"], rig.worker.counts()["rejected"]) == (4, 1)


class Ledger(FakeDestination):
    """Appends, so that a batch delivered twice shows. Knows how many lines it has acknowledged."""

    def __init__(self) -> None:
        super().__init__(batch_points=10)
        self.lines: list[int] = []
        self.restored: list[dict[str, Any]] = []

    def write_metrics(self, batch: Any) -> None:
        self.lines += [record.step for record in batch]
        super().write_metrics(batch)

    def state(self) -> dict[str, Any]:
        return {"lines": len(self.lines)}

    def restore(self, state: dict[str, Any]) -> None:
        self.restored.append(state)
        del self.lines[state["lines"] :]


def test_a_destination_takes_back_what_was_not_acknowledged(rig: Rig) -> None:
    """A shipper dies behind a delivery whose cursor was not saved: the next one delivers it, once in all."""
    ledger = Ledger()
    rig.make_destination(ledger)
    rig.worker = rig.new_worker(Policy(base=1000.0, cap=1000.0))
    ledger.refuse = lambda call, points: raise_if(any(step >= 20 for _, step, _ in points))
    rig.emit(40)
    rig.worker.start()
    until(lambda: rig.worker.failing is not None)
    rig.worker.calls.stop()
    rig.join()
    assert ledger.lines == list(range(30)), "the last ten are written, and not acknowledged"
    assert ledger.restored == [], "there was nothing to go on from at the first start"
    ledger.refuse = lambda call, points: None
    rig.worker = rig.new_worker()
    rig.deliver()
    assert ledger.restored == [{"lines": 20}]
    assert ledger.lines == list(range(40))


def test_a_state_of_another_version_is_not_restored(rig: Rig) -> None:
    """A destination whose format has changed would misread it: the worker ends, and says what to do."""
    ledger = Ledger()
    rig.make_destination(ledger)
    kept = {"version": 2, "lines": 20}
    save_cursor(rig.journal.cursor("fake"), Cursor(Position(1, 0, 0), destination=kept))
    rig.worker = rig.new_worker()
    rig.worker.start()
    rig.join()
    assert ledger.restored == []
    assert rig.worker.refused == (
        "the state of fake is of version 2, and this program reads version 1. "
        "Deliver the journal with the program that wrote it"
    )


def test_a_state_without_a_version_is_of_the_first(rig: Rig) -> None:
    """Delivery of a journal whose cursor has none continues where it was, and nothing is there twice."""
    ledger = Ledger()
    rig.make_destination(ledger)
    save_cursor(rig.journal.cursor("fake"), Cursor(Position(1, 0, 0), destination={"lines": 20}))
    rig.worker = rig.new_worker()
    rig.deliver()
    assert ledger.restored == [{"lines": 20}]
    assert rig.worker.refused is None


def test_a_destination_can_keep_its_state_before_it_is_delivered(rig: Rig) -> None:
    """What a restarted shipper has to know is on disk before the request that relies on it."""
    ledger = Ledger()
    rig.make_destination(ledger)
    seen: list[Any] = []

    def refuse(call: str, points: list[Point]) -> None:
        if call == "open":
            ledger.keep_state()
            seen.append(load_cursor(rig.journal.cursor("fake")).destination)

    ledger.refuse = refuse
    rig.worker = rig.new_worker()
    rig.emit(3)
    rig.deliver()
    assert seen == [{"version": 1, "lines": 0}]


class Disk(FakeDestination):
    """Has what it got for good only after ``sync``."""

    def __init__(self) -> None:
        super().__init__()
        self.synced: list[int] = []
        self.failures = 2

    def sync(self) -> None:
        if self.failures:
            self.failures -= 1
            raise OSError("no room")
        self.synced.append(len(self.points))


def test_segments_are_let_go_when_the_destination_has_them_for_good(tmp_path: Path) -> None:
    """Acknowledged is not yet safe from a power cut. A sync that fails is tried again."""
    disk = Disk()
    with small_segments():
        rig = Rig(tmp_path, disk)
        rig.emit(200)
        rig.worker = rig.new_worker()
        assert rig.worker.keep_from == 1
        rig.worker.start()
        until(lambda: rig.worker.keep_from == rig.worker.cursor.position.segment > 1)
        rig.finish()
    assert disk.synced
    assert disk.failures == 0
