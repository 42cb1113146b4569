"""Several destinations of one journal: none holds up another, and the run's own least of all."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.fake import FakeDestination, Gate, refuse_all, until
from tests.journal.tools import small_segments
from tests.support.bench import Bench
from trackside.errors import DestinationFailedError, RetryableError
from trackside.journal.meta import DestinationSpec
from trackside.shipper import segment_keeper
from trackside.shipper.protocol import EXIT_DONE, EXIT_REFUSED, SEEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def named(name: str) -> FakeDestination:
    """A destination in memory."""
    made = FakeDestination()
    made.name = name
    return made


class ThreeWorkers(Bench):
    """The run's own destination and two beside it, with the shipper on a thread."""

    def __init__(self, root: Path, *, cap: int = 1 << 30) -> None:
        others = (DestinationSpec("second", "jsonl"), DestinationSpec("third", "jsonl"))
        self.own, self.second, self.third = named("mlflow"), named("second"), named("third")
        super().__init__(root, [self.own, self.second, self.third], cap=cap, destinations=others)
        self.codes: list[int] = []
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        self.running = self.shipper()
        self.codes.append(self.running.run())

    def finish(self) -> int:
        """End the run well. The shipper's exit code."""
        self.tell("finished", status="FINISHED")
        self.pipe.send(SEEN)
        self.thread.join(20)
        assert not self.thread.is_alive()
        return self.codes[0]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreeWorkers]:
    """The shipper runs on a thread here, which must not set signal handlers."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with small_segments():
        made = ThreeWorkers(tmp_path)
        yield made
        made.close()


def arrived(destination: FakeDestination) -> int:
    """How many points it has."""
    return len(destination.points)


def test_each_gets_everything_and_is_told_the_end(bench: ThreeWorkers) -> None:
    """From its own cursor. The journal goes when the last one is done."""
    bench.emit(100)
    bench.thread.start()
    assert bench.finish() == EXIT_DONE
    for destination in (bench.own, bench.second, bench.third):
        assert arrived(destination) == 100
        assert [end.status for end, _ in destination.ends] == ["FINISHED"]
    assert not bench.journal.path.exists()


def test_one_that_hangs_holds_up_no_other(bench: ThreeWorkers) -> None:
    """The run's own and the third continue. The second's turn comes."""
    gate = Gate()
    bench.second.refuse = lambda call, points: gate() if call == "metrics" else None
    bench.emit(100)
    bench.thread.start()
    assert gate.reached.wait(20)
    until(lambda: arrived(bench.own) == arrived(bench.third) == 100)
    gate.opened.set()
    assert bench.finish() == EXIT_DONE
    assert arrived(bench.second) == 100


def test_one_that_fails_is_said_once_and_changes_nothing_for_the_run(bench: ThreeWorkers) -> None:
    """Its error is under its own name. The phase is the run's."""
    down = True

    def refuse(_call: str, _points: list[Any]) -> None:
        if down:
            raise RetryableError("no room")

    bench.third.refuse = refuse
    bench.emit(10)
    bench.thread.start()
    until(lambda: "third" in bench.state().workers and bench.state().workers["third"].error == "no room")
    until(lambda: bench.state().phase == "shipping")
    assert bench.state().error is None
    assert [n for n in bench.state().notices if "third" in n and "no room" in n] == bench.state().notices
    down = False
    assert bench.finish() == EXIT_DONE
    assert arrived(bench.third) == 10


def test_one_that_refuses_leaves_the_journal_for_later(bench: ThreeWorkers) -> None:
    """The others get all and are told the end. What it did not take is work for ``sync``."""
    bench.second.refuse = refuse_all("the disk is read-only", DestinationFailedError, only="open")
    bench.emit(50)
    bench.thread.start()
    assert bench.finish() == EXIT_REFUSED
    assert arrived(bench.own) == arrived(bench.third) == 50
    assert bench.own.ends[0][0].status == "FINISHED"
    assert bench.state().workers["second"].refused == "the disk is read-only"
    assert "second: the disk is read-only" in (bench.state().error or "")
    assert bench.journal.segment_numbers(), "the points are still there"


def test_the_others_go_on_when_mlflow_refuses(bench: ThreeWorkers) -> None:
    """Training went on without MLflow's answer, which then is a no."""
    bench.own.refuse = refuse_all("the experiment is deleted", DestinationFailedError, only="open")
    bench.emit(50)
    bench.thread.start()
    until(lambda: bench.state().phase == "refused")
    until(lambda: arrived(bench.second) == arrived(bench.third) == 50)
    bench.emit(50, start=50)
    assert bench.finish() == EXIT_REFUSED
    assert arrived(bench.second) == 100
    assert bench.second.ends[0][0].status == "FINISHED"


def test_start_has_raised_and_all_leave(bench: ThreeWorkers) -> None:
    """Whoever waited for the run has let go: the others must not continue with a run that never began."""
    bench.own.refuse = refuse_all("the experiment is deleted", DestinationFailedError, only="open")
    bench.thread.start()
    until(lambda: bench.state().phase == "refused")
    bench.journal.remove()
    bench.thread.join(20)
    assert bench.codes == [EXIT_REFUSED]


def test_a_refusing_or_crowding_destination_keeps_no_segments(
    bench: ThreeWorkers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Segments the run's own is done with go, when another destination has failed or the cap is near."""
    monkeypatch.setattr(segment_keeper, "SYNC_EVERY", 0.01)
    bench.second.refuse = refuse_all("never", DestinationFailedError, only="open")
    gate = Gate()
    bench.third.refuse = lambda call, points: gate() if call == "metrics" else None
    bench.thread.start()
    bench.emit(2000)
    until(lambda: arrived(bench.own) == 2000)
    own = bench.running.workers[0]
    until(lambda: own.cursor.position.seq == 2000 and own.keep_from == own.cursor.position.segment)
    first = bench.journal.segment_numbers()[0]
    assert first == 1, "the third has not read them, and there is room"
    bench.running._segments._cap = 1
    until(lambda: bench.journal.segment_numbers()[0] == own.keep_from)
    gate.opened.set()
    bench.running._segments._cap = bench.meta.cap
    bench.finish()
    cursor = bench.running.workers[2].counts()
    assert cursor["damaged"] > 0, "what the third has missed is counted"
    assert arrived(bench.own) == 2000
