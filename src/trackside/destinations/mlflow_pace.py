"""How many points a request carries: fewer after one that took too long, more again after a quick one.

A batch that was committed but not acknowledged (a timeout, a cut connection, a killed shipper) is sent again,
and MLflow then looks up which of its points it has. That takes it longer the more the run has already: on
sqlite, with 216,000 points in the run, 6.7 s for 1000 points sent again, and 5 ms for a single one (mlflow
3.17; earlier ones read the keys' whole history). Where that is longer than a request may take, the same
batch would be sent, cut off and sent again for ever, each time leaving the server busy with the last one.

A failure that came at once (refused, 429, 500) says nothing of the size, and more requests would be the
wrong answer to a server that asks for fewer.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from trackside.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_T = TypeVar("_T")


class Pace:
    """Sends batches in requests of at most ``most`` points, that may take ``patience`` seconds each."""

    def __init__(self, most: int, *, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = self._size = most
        self._patience = patience
        self._clock = clock
        self._unfinished: object = None
        self._sent = 0

    def send(self, batch: object, points: Sequence[_T], request: Callable[[Sequence[_T]], None]) -> None:
        """Send all of ``points``, which are those of ``batch``.

        Raises what ``request`` raises. After a :class:`RetryableError` the same ``batch``, the very object,
        goes on where it stopped; anything else starts it again.
        """
        if self._unfinished is not batch:
            self._unfinished, self._sent = batch, 0
        try:
            while self._sent < len(points):
                self._send_some(points, request)
        except RetryableError:
            raise
        except BaseException:
            self._unfinished = None
            raise
        self._unfinished = None

    def _send_some(self, points: Sequence[_T], request: Callable[[Sequence[_T]], None]) -> None:
        chunk = points[self._sent : self._sent + self._size]
        begun = self._clock()
        try:
            request(chunk)
        except RetryableError:
            if self._clock() - begun >= self._patience / 4:
                self._size = max(1, len(chunk) // 2)
            raise
        self._sent += len(chunk)
        if self._clock() - begun < self._patience / 4:  # twice as much will do, too
            self._size = min(2 * self._size, self._most)
