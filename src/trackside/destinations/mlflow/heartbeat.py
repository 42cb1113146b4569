"""When the next heartbeat is due, and whether the owner reads the run's page before it.

A heartbeat is a request. From a thousand runs with long steps, a server gets little else. So heartbeats are
as rare as those who rely on them allow:

* ``trackside reap`` ends a run after ten minutes without one, by default.
* A secondary writer takes a run over after :data:`~trackside.destinations.mlflow.owner.QUIET` seconds without
  one (:mod:`trackside.destinations.mlflow.owner`), which is more than two of an old run's.

The page tells the owner that another attempt has taken the run over, or that another program has ended it.
Both are rare, so it is read every :data:`LOOK_SECONDS`, and at once after a time without heartbeats: in an
outage, ``trackside reap`` may have ended the run.
"""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

HEARTBEAT_SECONDS = 30.0
"""Between two heartbeats of a young run, and between two looks of a secondary writer."""

OLD_HEARTBEAT_SECONDS = 60.0
"""Between two heartbeats of a run that is older than :data:`YOUNG_FOR`."""

YOUNG_FOR = 600.0

SLOW = 1.0
"""Seconds: a heartbeat that takes so long goes to a server with too much to do. The next one is as late as
that of an old run."""

LOOK_SECONDS = 120.0

SPREAD = 0.1
"""Heartbeats come sooner by up to this share, so that runs that began together do not stay together."""


class HeartbeatSchedule:
    """The heartbeats of one shipper. The first one is due when it is asked for."""

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._clock = clock
        self._uniform = uniform
        self._begun = clock()
        self._due = 0.0
        self._given = self._looked = self._sent = float("-inf")
        self._is_slow = False

    @property
    def is_due(self) -> bool:
        """Whether to give a heartbeat now."""
        return self._clock() >= self._due

    @property
    def needs_look(self) -> bool:
        """Whether the owner reads the run's page before the heartbeat."""
        now = self._clock()
        return now - self._looked >= LOOK_SECONDS or now - self._given >= 2 * self._interval

    def begin(self, *, is_first: bool = False) -> None:
        """A heartbeat is on its way, so the next one has time. It may fail."""
        self._sent = self._clock()
        share = self._uniform(0.3 if is_first else 1.0 - SPREAD, 1.0)
        self._due = self._clock() + share * self._interval

    def looked(self) -> None:
        """The page was read."""
        self._looked = self._clock()

    def given(self) -> None:
        """The heartbeat is on the page."""
        self._given = self._clock()
        self._is_slow = self._given - self._sent >= SLOW
        if self._is_slow:
            self._due = max(self._due, self._sent + (1.0 - SPREAD) * OLD_HEARTBEAT_SECONDS)

    def hurry(self) -> None:
        """Make the next heartbeat, and a look, due now."""
        self._due = self._looked = float("-inf")

    @property
    def _interval(self) -> float:
        is_young = self._clock() - self._begun < YOUNG_FOR and not self._is_slow
        return HEARTBEAT_SECONDS if is_young else OLD_HEARTBEAT_SECONDS
