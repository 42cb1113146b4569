"""How many points a request carries, and how many requests are sent at once.

A batch that was committed but not acknowledged (a timeout, a cut connection, a killed shipper) is sent again,
and MLflow then looks up which of its points it has. That takes longer the more points the run has: on sqlite,
with 216,000 points in the run, 6.7 s for 1000 points sent again, and 5 ms for a single one (MLflow 3.17).
Earlier versions read the keys' whole history. If that is longer than a request may take, the same batch would
time out and be sent again without end, and the server would still be busy with the last one. So requests
shrink after one that took too long, and grow again while they are quick.

An immediate failure (connection refused, 429, 500) says nothing about the size, and more requests would be
the wrong answer to a server that asks for fewer. After any failure, requests are sent one at a time, until
some of them have succeeded.
"""

from __future__ import annotations

WELL_ENOUGH = 8
"""Quick successes in a row after which one more request is sent at once."""

AHEAD = 2
"""Requests in a batch for each of those at once. With several, waiting for the last one costs less."""


class Pace:
    """At most ``most`` points a request that may take ``patience`` seconds, ``at_once`` requests. Pure."""

    def __init__(self, most: int, *, patience: float, at_once: int = 1) -> None:
        self.size = self._most = most
        self.at_once = self._most_at_once = at_once
        self._patience = patience
        self._went_well = 0

    @property
    def batch_points(self) -> int:
        """How many points a batch should hold. A server that is slow or fails gets small batches."""
        return self._most if self.at_once == 1 else self._most * self.at_once * AHEAD

    def went_well(self, seconds: float) -> None:
        """A request was answered after ``seconds``."""
        if self._is_long(seconds):
            self._one_at_a_time()
            return
        self.size = min(2 * self.size, self._most)  # a request of twice the size is still quick
        self._went_well += 1
        if self._went_well >= WELL_ENOUGH and self.at_once < self._most_at_once:
            self.at_once += 1
            self._went_well = 0

    def failed(self, points: int, seconds: float) -> None:
        """A request with ``points`` failed, and may be made again."""
        self._one_at_a_time()
        if self._is_long(seconds):
            self.size = max(1, points // 2)

    def _one_at_a_time(self) -> None:
        self.at_once = 1
        self._went_well = 0

    def _is_long(self, seconds: float) -> bool:
        return seconds >= self._patience / 4
