"""How long points collect: the slower the destination, the longer, and never when a worker is behind."""

from __future__ import annotations

import random

import pytest

from trackside.shipper.rhythm import LONGEST, POLL, SPREAD, TIMES, Rhythm


def longest(_low: float, high: float) -> float:
    """No luck."""
    return high


def after(*seconds: float) -> float:
    """The pause after batches that took so long."""
    rhythm = Rhythm(uniform=longest)
    for took in seconds:
        rhythm.delivered(took)
    return rhythm.pause


def test_a_quick_destination_is_asked_at_the_usual_pace() -> None:
    """Nothing changes for a run that has a server to itself."""
    assert after() == after(0.001, 0.002) == POLL


def test_a_slow_one_is_left_alone_in_proportion() -> None:
    """The pause follows what batches take, up to a limit."""
    assert after(*[1.0] * 9) == TIMES
    assert after(*[20.0] * 9) == LONGEST


def test_one_slow_answer_changes_little() -> None:
    """It may be a lock, or the crowd after an outage. A quick one then brings the usual pace back."""
    assert after(9.0) == 2 * POLL
    assert after(9.0, 0.01) == POLL


def test_a_quick_answer_ends_the_pauses_of_a_slow_time() -> None:
    """The server is free again."""
    assert after(*[20.0] * 9, 0.01) == POLL


def test_runs_that_began_together_part() -> None:
    """Their pauses differ, by a part of their length."""
    rhythm = Rhythm(uniform=random.Random(7).uniform)
    pauses = {rhythm.pause for _ in range(50)}
    assert len(pauses) == 50
    assert POLL * (1 - SPREAD) <= min(pauses) < max(pauses) <= POLL


def test_a_full_server_settles_where_its_queue_is_short() -> None:
    """A thousand runs at a server with a hundred requests a second wait 2.5 s in its queue, and not 10."""
    runs, capacity = 1000, 100
    cycle, took = 1.0, 1.0
    for _ in range(50):
        # Each run has one request in the queue, or pauses. What the others have there is before it.
        waiting = runs * took / cycle
        took = max(waiting / capacity, 1 / capacity)
        cycle = took + after(*[took] * 9)
    assert took == pytest.approx(runs / capacity / (1 + TIMES), rel=0.1)
    assert runs / cycle <= 1.01 * capacity
