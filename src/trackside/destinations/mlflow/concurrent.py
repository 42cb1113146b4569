"""Send a batch's points in several requests at once.

A stock server spends most of a request in Python, and has several processes for that. While it works on one
request, the next one can be prepared.

Invariants:

* Concurrent requests never share a metric key, and the points of one key are sent in order. MLflow reads a
  key's latest value and then writes it. Two requests that do so at once may collide on its row, or leave the
  older value, on a store that keeps no lock in between.
* ``send`` returns, or raises, once no request is in flight. So params, tags and the status, which the worker
  sends after that, overtake no metric.
* When a request fails, no other begins. Points accepted by then are not sent again by the same batch, nor by
  the halves of a rejected one. MLflow would store them once, but it would look each of them up.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, TypeAlias

from trackside.errors import DestinationFailedError, RejectedError, RetryableError, UnauthorisedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.bulk_store.points import Point
    from trackside.destinations.mlflow.pace import Pace

Request: TypeAlias = "Callable[[Sequence[Point]], None]"
"""Sends points and waits for the answer. Raises a :class:`trackside.errors.DeliveryError`."""

_WEIGHTS = ((DestinationFailedError, 3), (RejectedError, 0), (UnauthorisedError, 2), (RetryableError, 1))


class ConcurrentSender:
    """Sends points by ``request``, as many at once as ``pace`` says. For one caller at a time."""

    def __init__(self, pace: Pace, request: Request, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.pace = pace
        self._request = request
        self._clock = clock
        self._lock = threading.Lock()
        self._accepted: set[Point] = set()
        self._waiting: list[Sequence[Point]] = []
        self._answered: list[Sequence[Point]] = []
        self._errors: list[BaseException] = []

    def send(self, points: Sequence[Point]) -> None:
        """Send all of ``points``, except those that an earlier, failed call has sent.

        Raises what ``request`` raises. If several requests failed, :func:`_weight` chooses the error.
        """
        rest = [point for point in points if point not in self._accepted] if self._accepted else points
        requests = -(-len(rest) // self.pace.size)
        self._waiting = split_by_key(rest, min(self.pace.at_once, requests))
        self._answered, self._errors = [], []
        helpers = [self._new_helper() for _ in self._waiting[1:]]
        with contextlib.suppress(RuntimeError):  # no more threads: this one sends everything
            for helper in helpers:
                helper.start()
        self._send_parts()
        for helper in helpers:
            if helper.ident is not None:
                helper.join()
        if self._errors:
            self._accepted.update(*self._answered)
            raise max(self._errors, key=_weight)
        if self._accepted:
            self._accepted.difference_update(points)

    def _new_helper(self) -> threading.Thread:
        # A daemon, so that a shipper that has to exit waits for no answer.
        return threading.Thread(target=self._send_parts, name="trackside-request", daemon=True)

    def _send_parts(self) -> None:
        while part := self._next_part():
            sent = 0
            while sent < len(part) and not self._errors:
                chunk = part[sent : sent + self.pace.size]
                self._send_chunk(chunk)
                sent += len(chunk)

    def _next_part(self) -> Sequence[Point] | None:
        with self._lock:
            return self._waiting.pop(0) if self._waiting and not self._errors else None

    def _send_chunk(self, chunk: Sequence[Point]) -> None:
        begun = self._clock()
        try:
            self._request(chunk)
        except BaseException as error:  # raised by send(), in the caller's thread
            with self._lock:
                self._errors.append(error)
                if isinstance(error, RetryableError):
                    self.pace.failed(len(chunk), self._clock() - begun)
        else:
            with self._lock:
                self._answered.append(chunk)
                self.pace.went_well(self._clock() - begun)


def split_by_key(points: Sequence[Point], parts: int) -> list[Sequence[Point]]:
    """``points`` in at most ``parts`` parts of similar size. Each key is in one part, in order. Pure."""
    if parts <= 1:
        return [points] if points else []
    sizes = [0] * parts
    part_of = {}
    for key, count in Counter(point[0] for point in points).most_common():
        smallest = sizes.index(min(sizes))
        part_of[key] = smallest
        sizes[smallest] += count
    split: list[list[Point]] = [[] for _ in range(parts)]
    for point in points:
        split[part_of[point[0]]].append(point)
    return [part for part in split if part]


def _weight(error: BaseException) -> tuple[int, float]:
    """Which of several errors counts.

    A run that is gone comes first, then the error that asks for the longest wait. A rejection comes last.
    Next to a failure it is judged again, in a request of its own.
    """
    weight = next((weight for kind, weight in _WEIGHTS if isinstance(error, kind)), 4)
    return weight, getattr(error, "retry_after", None) or 0.0
