"""When heartbeats come: often enough for those who rely on them, and not all at the same moment."""

from __future__ import annotations

import random
from itertools import pairwise

from trackside.destinations.mlflow.heartbeat import (
    HEARTBEAT_SECONDS,
    LOOK_SECONDS,
    OLD_HEARTBEAT_SECONDS,
    SPREAD,
    YOUNG_FOR,
    HeartbeatSchedule,
)
from trackside.destinations.mlflow.owner import QUIET
from trackside.shipper.rhythm import LONGEST

REQUEST_TIMEOUT = 30.0


class Run:
    """A run over hours, whose worker asks every second."""

    def __init__(self, seed: int = 0) -> None:
        self.now = 1000.0
        self.begun = self.now
        self.schedule = HeartbeatSchedule(clock=lambda: self.now, uniform=random.Random(seed).uniform)
        self.beats: list[float] = []
        self.looks: list[float] = []
        self.schedule.begin(is_first=True)
        self.schedule.looked()
        self.schedule.given()

    def live(self, seconds: float, *, fails: bool = False) -> None:
        end = self.now + seconds
        while self.now < end:
            self.now += 1.0
            if not self.schedule.is_due:
                continue
            needs_look = self.schedule.needs_look
            self.schedule.begin()
            if fails:
                continue
            if needs_look:
                self.schedule.looked()
                self.looks.append(self.now - self.begun)
            self.schedule.given()
            self.beats.append(self.now - self.begun)


def gaps(moments: list[float]) -> list[float]:
    """Between each two."""
    return [after - before for before, after in pairwise(moments)]


def test_a_young_run_gives_a_heartbeat_every_half_minute_and_an_old_one_every_minute() -> None:
    """It comes sooner by up to a tenth, and never later than documented."""
    run = Run()
    run.live(3600)
    young = [gap for gap, at in zip(gaps(run.beats), run.beats, strict=False) if at < YOUNG_FOR - 30]
    old = [gap for gap, at in zip(gaps(run.beats), run.beats, strict=False) if at > YOUNG_FOR]
    assert (1 - SPREAD) * HEARTBEAT_SECONDS <= min(young) <= max(young) <= HEARTBEAT_SECONDS + 1
    assert (1 - SPREAD) * OLD_HEARTBEAT_SECONDS <= min(old) <= max(old) <= OLD_HEARTBEAT_SECONDS + 1


def test_the_page_is_read_every_two_minutes() -> None:
    """That is when an owner finds out that it is one no more."""
    run = Run()
    run.live(3600)
    assert run.looks
    assert max(gaps([0.0, *run.looks])) <= LOOK_SECONDS + OLD_HEARTBEAT_SECONDS + 1
    assert len(run.looks) <= len(run.beats) / 2


def test_after_an_outage_the_page_is_read_at_once() -> None:
    """The run may have been reaped meanwhile."""
    run = Run()
    run.live(100)
    run.live(90, fails=True)
    looks = len(run.looks)
    run.live(HEARTBEAT_SECONDS + 1)
    assert len(run.looks) == looks + 1


def test_a_slow_server_gets_half_as_many() -> None:
    """Heartbeats are the first to give way, within what those who watch them allow."""
    now = 0.0
    schedule = HeartbeatSchedule(clock=lambda: now, uniform=lambda _low, high: high)
    beats = []
    for second in range(300):
        now = float(second)
        if schedule.is_due:
            beats.append(now)
            schedule.begin()
            now += 3.0
            schedule.given()
    assert max(gaps(beats)) <= OLD_HEARTBEAT_SECONDS
    assert min(gaps(beats)) >= (1 - SPREAD) * OLD_HEARTBEAT_SECONDS


def test_runs_that_began_together_do_not_beat_together() -> None:
    """Of a hundred, no second of the first minutes has more than a tenth."""
    beats: list[int] = []
    for seed in range(100):
        run = Run(seed)
        run.live(300)
        beats += map(int, run.beats)
    assert max(beats.count(second) for second in range(300)) <= 10


def test_a_living_owner_never_counts_as_gone() -> None:
    """The longest silence: a heartbeat that is due during a pause, and then waits for a slow server."""
    assert OLD_HEARTBEAT_SECONDS + LONGEST + REQUEST_TIMEOUT < QUIET
