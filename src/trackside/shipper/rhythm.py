"""How long a worker lets points collect between two batches. Pure.

A fleet of runs shares one server. If each run sends as soon as it has a point, a server that needs 10 ms for
a request is full at 100 runs. From then on its queue grows until every run waits in it, and so does the
person who opens MLflow's page. So a worker pauses in proportion to what the last batches took. A server that
becomes slow is asked less often, by all of its runs alike, with more points in each request. The points
arrive no later: they wait in the journal, and not in the server's queue.

Invariants:

* A worker that is behind, because a batch was full, does not pause.
* A destination that answers at once is asked every :data:`POLL` seconds.
* No pause is longer than :data:`LONGEST`, which a heartbeat can wait.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

POLL = 0.25
"""Seconds between two looks at a quiet journal. Small samples are collected for so long, too."""

TIMES = 3.0
"""The pause after a batch, in multiples of what the batch took. So a run has a request at the server for a
quarter of the time."""

LONGEST = 15.0

SPREAD = 0.25
"""Pauses differ by this share, so that runs that began together do not stay together."""


class Rhythm:
    """The pauses of one worker. ``uniform`` is that of :mod:`random`."""

    def __init__(self, *, uniform: Callable[[float, float], float]) -> None:
        self._uniform = uniform
        self._pause = POLL

    def delivered(self, seconds: float) -> None:
        """A batch was accepted, and its call took ``seconds``.

        A pause is at most twice as long as the one before. A single slow answer, as in the crowd after an
        outage, says little about the server. A quick one says that it is quick.
        """
        self._pause = min(max(POLL, TIMES * seconds), 2 * self._pause, LONGEST)

    @property
    def pause(self) -> float:
        """Seconds until the next look at the journal."""
        return self._pause * self._uniform(1.0 - SPREAD, 1.0)
