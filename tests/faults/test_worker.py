"""A worker delivers everything once, in order, even if its destination fails."""

from __future__ import annotations

import time
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

from tests.faults.fake import (
    FakeDestination,
    Gate,
    Point,
    Rig,
    raise_if,
    refuse_all,
    until,
)
from tests.journal.tools import small_segments
from trackside.errors import RejectedError, RetryableError, UnauthorisedError, UnprovenError
from trackside.journal.cursor import Cursor, load_cursor, save_cursor
from trackside.journal.reader import Position
from trackside.lifecycle.evidence import Evidence
from trackside.shipper import rhythm, sending
from trackside.shipper.retry import Policy
from trackside.shipper.worker_report import state_of

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trackside.journal.format import MetricsRecord


def test_the_cursor_never_passes_what_was_not_delivered(rig: Rig) -> None:
    """While a batch is refused for the moment the cursor stands still, and continues behind it."""
    down = True

    def refuse(call: str, points: list[Point]) -> None:
        if down and any(step >= 100 for _, step, _ in points):
            raise RetryableError("down")

    rig.destination.refuse = refuse
    rig.emit(300)
    rig.worker.start()
    until(lambda: len(rig.destination.batches) > 20)
    assert load_cursor(rig.journal.cursor("fake")).position.seq == 100
    assert load_cursor(rig.journal.cursor("fake")).shipped == 100
    assert rig.worker.failing == "down"
    down = False
    rig.finish()
    assert load_cursor(rig.journal.cursor("fake")).position.seq == 300
    assert rig.worker.failing is None


def test_a_stop_in_the_middle_leaves_the_rest_to_the_next(rig: Rig) -> None:
    """A worker that is stopped while it retries ends at once. Another one delivers what is left, once."""
    rig.destination.refuse = lambda call, points: raise_if(call == "metrics")
    rig.emit(50)
    rig.worker = rig.new_worker(Policy(base=1000.0, cap=1000.0))
    rig.worker.start()
    until(lambda: rig.worker.failing is not None)
    rig.worker.calls.stop()
    rig.join(5)
    assert not rig.worker.finished
    assert rig.worker.refused is None
    rig.destination.refuse = lambda call, points: None
    rig.worker = rig.new_worker()
    rig.deliver()
    assert len(rig.destination.points) == 50
    assert rig.worker.counts()["shipped"] == 50


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
    rig.worker.start()
    assert gate.reached.wait(20)
    rig.worker.save_durably()
    kept = load_cursor(rig.journal.cursor("fake"))
    assert (kept.position.seq, kept.shipped) == (0, 0)
    gate.opened.set()
    rig.finish()
    assert rig.worker.counts()["shipped"] == 80


def test_opening_is_retried_for_ever_unless_refused(rig: Rig) -> None:
    """A server that is down at the start is waited for. A lasting refusal ends the worker with its words."""
    attempts = iter(range(100))
    rig.destination.refuse = lambda call, points: raise_if(call == "open" and next(attempts) < 30)
    rig.worker.start()
    until(lambda: rig.worker.opened)
    assert rig.destination.opened == 31
    rig.finish()


def test_a_refused_opening_ends_the_worker(rig: Rig) -> None:
    """Nothing is tried a second time."""
    rig.destination.refuse = refuse_all("experiment is deleted", RejectedError)
    rig.worker.start()
    rig.join()
    assert rig.worker.refused == "experiment is deleted"
    assert rig.destination.opened == 1
    assert rig.destination.closed == 1


def test_a_refused_heartbeat_holds_up_no_metric(rig: Rig) -> None:
    """Only the points matter."""
    rig.destination.refuse = refuse_all("no tags today", RejectedError, "idle")
    rig.worker.start()
    until(lambda: rig.destination.idled > 1)
    rig.emit(5)
    rig.finish()
    assert len(rig.destination.points) == 5


def test_idle_is_called_under_a_backlog_too(rig: Rig) -> None:
    """A run that emits faster than the server takes still shows its heartbeat."""
    rig.destination.batch_points = 1
    rig.emit(50)
    rig.deliver()
    assert rig.destination.idled >= 49


@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, MemoryError])
@pytest.mark.parametrize("call", ["open", "metrics", "idle", "end"])
def test_an_unforeseen_error_is_told_and_tried_again(rig: Rig, call: str, kind: type[BaseException]) -> None:
    """Whichever call it comes from: the worker fails with its name until the call works, and delivers all."""
    rig.destination.refuse = refuse_all("oops", kind, call)  # type: ignore[arg-type]
    rig.emit(3)
    rig.worker.start()
    if call == "end":
        rig.evidence = Evidence(finished="FINISHED")
    until(lambda: rig.worker.failing == f"an unexpected error: {kind.__name__}: oops")
    assert rig.worker.is_alive()
    rig.destination.refuse = lambda call, points: None
    rig.finish()
    assert rig.worker.failing is None
    assert rig.worker.counts()["shipped"] == len(rig.destination.points) == 3


def test_an_error_of_our_own_goes_back_to_the_last_acknowledgement(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read and not acknowledged is read again: no descriptor at a new segment, a bug of ours."""
    read, errors = rig.worker.reader.read, iter([OSError(24, "Too many open files"), KeyError("bug")])

    def read_and_fail(limit: int) -> Any:
        entries = read(limit)
        if entries and (error := next(errors, None)) is not None:
            raise error
        return entries

    monkeypatch.setattr(rig.worker.reader, "read", read_and_fail)
    rig.emit(250)
    rig.deliver()
    assert len(rig.destination.points) == 250
    assert rig.worker.counts()["shipped"] == 250
    assert next(errors, None) is None


def test_a_call_past_its_deadline_fails(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that hangs raises nothing, so another thread has to see it. Once it is back all is well."""
    monkeypatch.setattr(sending, "DEADLINE", 0.05)
    gate = Gate()
    rig.destination.refuse = lambda call, points: gate() if call == "metrics" else None
    rig.emit(1)
    rig.worker.start()
    assert gate.reached.wait(20)
    until(lambda: rig.worker.failing is not None)
    assert rig.worker.failing == "no answer for more than 0 s (in write_metrics)"
    assert state_of(rig.worker).error == rig.worker.failing
    assert rig.worker.calls.silent_for > 0.05
    gate.opened.set()
    rig.finish()
    assert rig.worker.failing is None
    assert rig.worker.calls.silent_for == 0.0


class Forgetful(FakeDestination):
    """Acknowledges what it loses. ``lossy`` while it does."""

    lossy, lost, needs_proof = True, False, False
    refuted = 0

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        super().write_metrics(batch)
        self.needs_proof = True
        if self.lossy:
            self.points.clear()
            self.lost = True

    def prove(self) -> None:
        lost, self.lost, self.needs_proof = self.lost, False, False
        if lost:
            self.refuted += 1
            raise UnprovenError("nothing is there")


def test_what_is_not_proven_is_delivered_again(tmp_path: Path) -> None:
    """From the last proof on, with its counts. No segment goes, and no end is told, before the proof."""
    destination = Forgetful(batch_points=20)
    with small_segments():
        rig = Rig(tmp_path, destination)
        rig.emit(200)
    rig.worker.start()
    until(lambda: rig.worker.failing == "nothing is there")
    assert rig.worker.keep_from == 1
    assert len(destination.points) == 0
    destination.lossy = False
    rig.finish()
    assert len(destination.points) == 200
    assert rig.worker.counts()["shipped"] == 200
    assert rig.worker.keep_from > 1
    rig.writer.close()


def test_an_acknowledgement_is_a_claim_until_it_is_proven(tmp_path: Path) -> None:
    """The cursor on disk tells the two apart, and whoever waits can ask for the proof."""
    destination = Forgetful()
    destination.lossy = False
    rig = Rig(tmp_path, destination)
    rig.emit(30)
    last = rig.writer.last_seq
    rig.worker.start()
    path = rig.journal.cursor("fake")
    until(lambda: load_cursor(path).acknowledges(last))
    assert not load_cursor(path).has(last)
    rig.worker.prove_now()
    until(lambda: load_cursor(path).has(last))
    destination.lossy = True
    rig.emit(10)
    until(lambda: load_cursor(path).acknowledges(last + 10))
    rig.worker.prove_now()
    until(lambda: destination.refuted > 0)
    assert not load_cursor(path).has(last + 10)
    assert load_cursor(path).has(last)
    destination.lossy = False
    rig.finish()
    rig.writer.close()


@pytest.mark.parametrize("found", [Position(1, 0, 10**9), Position(7, 99, 50), Position(1, 10**9, 40)])
def test_a_cursor_beyond_the_end_delivers_from_the_beginning(rig: Rig, found: Position) -> None:
    """It is another journal's, or the segments came from a backup: it is said, and nothing is skipped."""
    told: list[str] = []
    rig.emit(30)
    save_cursor(rig.journal.cursor("fake"), Cursor(found, shipped=50))
    rig.worker = rig.new_worker(notice=told.append)
    rig.deliver()
    assert len(rig.destination.points) == 30
    assert rig.worker.counts()["shipped"] == 30
    (text,) = told
    assert text.endswith("and the journal has 30: everything in it is delivered again")


def test_a_cursor_at_the_end_delivers_nothing_again(rig: Rig) -> None:
    """A shipper that was killed before the end was told tells the end, and no more."""
    rig.emit(30)
    rig.worker.start()
    until(lambda: rig.worker.cursor.shipped == 30)
    rig.worker.calls.stop()
    rig.join()
    rig.destination.points.clear()
    rig.worker = rig.new_worker()
    rig.deliver()
    assert rig.destination.points == set()
    assert rig.worker.counts()["shipped"] == 30


class Talkative(FakeDestination):
    """Makes several requests in a call, and says when one was answered."""

    answered_at = 0.0


def test_a_long_call_with_answers_does_not_hang() -> None:
    """The deadline runs from the last answer."""
    now = 100.0
    destination = Talkative()
    made = sending.Calls(destination, clock=lambda: now)

    def work() -> None:
        nonlocal now
        now += sending.DEADLINE + 1
        assert made.failing == f"no answer for more than {sending.DEADLINE:.0f} s (in work)"
        destination.answered_at = now
        assert made.failing is None
        assert made.silent_for == 0.0

    made.once(work)
    assert made.failing is None


def test_a_nudge_cuts_a_backoff_short_but_no_wish_of_the_server(rig: Rig) -> None:
    """``flush()`` makes the shipper try now, unless the server asked to be left alone."""
    rig.destination.refuse = lambda call, points: raise_if(call == "metrics")
    rig.emit(1)
    rig.worker = rig.new_worker(Policy(base=1000.0, cap=1000.0))
    rig.worker.start()
    until(lambda: rig.worker.failing is not None)
    tries = len(rig.destination.batches)
    rig.worker.calls.wake.set()
    until(lambda: len(rig.destination.batches) > tries)
    rig.destination.refuse = _wish
    rig.worker.calls.wake.set()
    until(lambda: rig.worker.failing == "429")
    tries = len(rig.destination.batches)
    for _ in range(10):
        rig.worker.calls.wake.set()
        time.sleep(0.01)
    assert len(rig.destination.batches) == tries


def _wish(call: str, points: list[Point]) -> None:
    raise RetryableError("429", retry_after=500.0)


@pytest.mark.parametrize(
    ("error", "pause"),
    [(RetryableError("429", retry_after=0.3), 0.3), (UnauthorisedError("401"), 0.05)],
    ids=["a server that names its time", "bad credentials"],
)
def test_some_failures_have_a_pace_of_their_own(rig: Rig, error: Exception, pause: float) -> None:
    """The server is not asked before."""
    times: list[float] = []

    def refuse(call: str, points: list[Point]) -> None:
        if call == "metrics":
            times.append(time.monotonic())
            if len(times) < 3:
                raise error

    rig.destination.refuse = refuse
    rig.emit(1)
    rig.worker.start()
    until(lambda: len(times) == 3)
    rig.finish()
    assert all(b - a >= pause for a, b in pairwise(times))


def test_points_collect_while_a_slow_destination_is_left_alone(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They go in one batch. A nudge, as of a flush or an end, does not wait for the pause to be over."""
    monkeypatch.setattr(rhythm, "LONGEST", 1e6)
    monkeypatch.setattr(rhythm, "POLL", 1e3)
    rig.worker = rig.new_worker()
    rig.emit(1)
    rig.worker.start()
    until(lambda: rig.worker.counts()["shipped"] == 1)
    for start in range(1, 11):
        rig.emit(1, start=start)
        time.sleep(0.05)
    assert len(rig.destination.batches) == 1
    rig.worker.calls.wake.set()
    until(lambda: rig.worker.counts()["shipped"] == 11)
    assert len(rig.destination.batches) == 2
    rig.finish()
