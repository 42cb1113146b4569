"""A lane delivers everything once, in order, whatever its destination does."""

from __future__ import annotations

import time
from itertools import pairwise

from tests.faults.fake import (
    Gate,
    Point,
    Rig,
    raise_if,
    refuse_all,
    until,
)
from trackside.errors import RejectedError, RetryableError, UnauthorisedError
from trackside.journal.cursor import load_cursor
from trackside.shipper.retry import Policy


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
    rig.destination.refuse = lambda call, points: raise_if(call == "metrics")
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


def test_opening_is_retried_for_ever_unless_refused(rig: Rig) -> None:
    """A server that is down at the start is waited for; a lasting refusal ends the lane with its words."""
    attempts = iter(range(100))
    rig.destination.refuse = lambda call, points: raise_if(call == "open" and next(attempts) < 30)
    rig.lane.start()
    until(lambda: rig.lane.opened)
    assert rig.destination.opened == 31
    rig.finish()


def test_a_refused_opening_ends_the_lane(rig: Rig) -> None:
    """Nothing is tried a second time."""
    rig.destination.refuse = refuse_all("experiment is deleted", RejectedError)
    rig.lane.start()
    rig.join()
    assert rig.lane.refused == "experiment is deleted"
    assert rig.destination.opened == 1
    assert rig.destination.closed == 1


def test_a_refused_heartbeat_holds_up_no_metric(rig: Rig) -> None:
    """Only the points matter."""
    rig.destination.refuse = refuse_all("no tags today", RejectedError, "idle")
    rig.lane.start()
    until(lambda: rig.destination.idled > 1)
    rig.emit(5)
    rig.finish()
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
    rig.destination.refuse = refuse_all("oops", ZeroDivisionError, "metrics")
    rig.emit(1)
    rig.lane.start()
    rig.join()
    assert rig.lane.refused == "ZeroDivisionError: oops"


def test_a_nudge_cuts_a_backoff_short_but_no_wish_of_the_server(rig: Rig) -> None:
    """``flush()`` makes the shipper try now, unless the server asked to be left alone."""
    rig.destination.refuse = lambda call, points: raise_if(call == "metrics")
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
    assert all(b - a >= 0.3 for a, b in pairwise(times))


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
    assert all(b - a >= 0.05 for a, b in pairwise(times))
