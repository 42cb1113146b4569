"""How much a server is asked at once: how many points a request carries, and how many requests there are.

A batch that was committed but not acknowledged (a timeout, a cut connection, a killed shipper) is sent again,
and MLflow then looks up which of its points it has. That takes it longer the more the run has already: on
sqlite, with 216,000 points in the run, 6.7 s for 1000 points sent again, and 5 ms for a single one (mlflow
3.17; earlier ones read the keys' whole history). Where that is longer than a request may take, the same
batch would be sent, cut off and sent again for ever, each time leaving the server busy with the last one.
So requests shrink when one took too long, and grow again when they are quick.

A failure that came at once (refused, 429, 500) says nothing of the size, and more requests would be the
wrong answer to a server that asks for fewer. After any failure they go one at a time, until a number of them
went well.
"""

from __future__ import annotations

WELL_ENOUGH = 8
"""Requests in a row that have to go well, and be quick, before there is one more at once."""

AHEAD = 2
"""Requests that each of those at once has before it in a batch: waiting for the last costs less then."""


class Pace:
    """At most ``most`` points a request that may take ``patience`` seconds, ``at_once`` requests. Pure."""

    def __init__(self, most: int, *, patience: float, at_once: int = 1) -> None:
        self.size = self._most = most
        self.at_once = self._most_at_once = at_once
        self._patience = patience
        self._went_well = 0

    @property
    def batch_points(self) -> int:
        """How many points a batch should hold; a server that is slow or fails gets to be asked for little."""
        return self._most if self.at_once == 1 else self._most * self.at_once * AHEAD

    def went_well(self, seconds: float) -> None:
        """A request was answered after ``seconds``."""
        if self._is_long(seconds):
            self._one_at_a_time()
            return
        self.size = min(2 * self.size, self._most)  # twice as much will do, too
        self._went_well += 1
        if self._went_well >= WELL_ENOUGH and self.at_once < self._most_at_once:
            self.at_once += 1
            self._went_well = 0

    def failed(self, points: int, seconds: float) -> None:
        """A request with ``points`` was not answered, or not well; it may be made again."""
        self._one_at_a_time()
        if self._is_long(seconds):
            self.size = max(1, points // 2)

    def _one_at_a_time(self) -> None:
        self.at_once = 1
        self._went_well = 0

    def _is_long(self, seconds: float) -> bool:
        return seconds >= self._patience / 4
