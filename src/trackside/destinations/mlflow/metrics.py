"""A batch of metrics on its way to MLflow: names made valid, several requests at once, and proof of arrival.

Whether a database can be written in bulk is asked with the first metrics. ``start()`` waits for the run, and
it need not wait for this. A stock server spends most of a request in Python, and has several processes for
that. While it works on one request, the next one can be prepared.

Invariants:

* Concurrent requests never share a metric key, and the points of one key are sent in order. Metrics of a
  checkpoint, which another thread sends, wait for a batch's end. MLflow reads a
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

from trackside.bulk_store.uri import can_be_bulk
from trackside.destinations.mlflow.address import is_server
from trackside.destinations.mlflow.pace import Pace
from trackside.destinations.mlflow.settings import request_timeout
from trackside.errors import (
    DestinationFailedError,
    RejectedError,
    RetryableError,
    UnauthorisedError,
    UnprovenError,
)
from trackside.journal.format import LinkedMetricsRecord
from trackside.names import MAX_METRICS_PER_BATCH, valid_name
from trackside.settings import read_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.bulk_store.points import Point
    from trackside.destinations.mlflow.connection import Connection
    from trackside.destinations.mlflow.tracking import Run
    from trackside.journal.format import MetricsRecord

POINTS_PER_WRITE = 5000
"""Points in one transaction, which locks a sqlite file for a tenth of a second. More points gain nothing."""

ROUNDING_MS = 1000
"""A server may round times to seconds. A point that is older by less still proves its step."""

SHOWN_WHOLE = 1000
"""Some servers leave out metrics of a run that has so many. Then a missing one proves nothing."""

Request: TypeAlias = "Callable[[Sequence[Point]], None]"
"""Sends points and waits for the answer. Raises a :class:`trackside.errors.DeliveryError`."""

_WEIGHTS = ((DestinationFailedError, 3), (RejectedError, 0), (UnauthorisedError, 2), (RetryableError, 1))


class MetricsSender:
    """Sends the metrics of one run over ``connection``. ``notice`` tells the user something.

    ``keeps_links``: whether the logged models and datasets that metrics belong to are this store's.
    """

    def __init__(
        self, connection: Connection, *, notice: Callable[[str], None], keeps_links: bool = True
    ) -> None:
        self._connection = connection
        self._notice = notice
        self._keeps_links = keeps_links
        self._names: dict[str, str] = {}
        self._is_server = is_server(connection.uri)
        self._last = LastPoints()
        self.has_sent = False
        """Whether points were delivered since this was made."""
        self._wants_bulk = can_be_bulk(connection.uri) and read_environment().bulk_store
        self._sender = self._new_sender(POINTS_PER_WRITE if self._wants_bulk else MAX_METRICS_PER_BATCH)

    @property
    def batch_points(self) -> int:
        """How many points a batch should hold now."""
        return self._sender.pace.batch_points

    def send(self, records: Sequence[MetricsRecord]) -> None:
        """Send all points of ``records``. A quick server gets several requests at once."""
        if self._wants_bulk and not self._connection.open_bulk_store():
            self._wants_bulk = False
            self._sender = self._new_sender(MAX_METRICS_PER_BATCH)
        points = self._points_of(records)
        with self._connection.sending_metrics:
            self._sender.send(points)
        self._note(points)

    def resend(self, record: MetricsRecord) -> None:
        """Send a record again that was taken before, in a request of its own."""
        points = self._points_of([record])
        self._connection.log_points(points)
        self._note(points)

    @property
    def needs_proof(self) -> bool:
        """Whether a server has acknowledged points that :meth:`prove` has not looked up yet."""
        return bool(self._last)

    def prove(self) -> None:
        """Look in the run for the last point of each metric.

        Raises :class:`UnprovenError` if one is not there.
        """
        missing = self._last.missing_in(self._connection.get_run()) if self._last else []
        self._last.forget()
        if missing:
            raise UnprovenError(
                f"points were acknowledged, and the run does not show them: {', '.join(missing[:5])}"
            )

    def valid(self, name: str) -> str:
        """``name``, or a similar name that MLflow takes."""
        valid = self._names.get(name)
        if valid is None:
            valid = self._names[name] = valid_name(name)
            if valid != name:
                self._notice(f"metric {name!r} is not a name MLflow takes, so it is logged as {valid!r}")
        return valid

    def _points_of(self, records: Sequence[MetricsRecord]) -> list[Point]:
        return [
            (self.valid(name), value, record.timestamp_ms, record.step, *self._link(record))
            for record in records
            for name, value in record.named_values().items()
        ]

    def _link(self, record: MetricsRecord) -> tuple[()] | tuple[str | None, str | None, str | None]:
        if not (self._keeps_links and isinstance(record, LinkedMetricsRecord)):
            return ()
        return record.link.model_id, record.link.dataset_name, record.link.dataset_digest

    def _note(self, points: Sequence[Point]) -> None:
        self.has_sent = True
        if self._is_server:  # a database in this process needs no proof
            self._last.note(points)

    def _new_sender(self, points: int) -> ConcurrentSender:
        """At most ``points`` a request. A server, which has several processes, gets several at once."""
        at_once = read_environment().requests_in_flight if self._is_server else 1
        pace = Pace(points, patience=request_timeout(), at_once=at_once)
        return ConcurrentSender(pace, self._connection.log_points)


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


class LastPoints:
    """The step and time of the last point of each metric, since the last :meth:`forget`.

    MLflow answers ``log-batch`` with ``{}``. A gateway in maintenance or a filter may answer the same.
    So these points are looked up in the run before a segment of the journal is deleted, and before the run's
    end is written. MLflow shows of each metric the point with the highest step, then the latest time
    (``_update_latest_metrics_if_necessary`` in ``mlflow/store/tracking/sqlalchemy_store.py``).
    """

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._last)

    def note(self, points: Sequence[Point]) -> None:
        """The server has acknowledged ``points``."""
        last = self._last
        for key, _value, timestamp, step, *_link in points:
            found = last.get(key)
            if found is None or found < (step, timestamp):
                last[key] = (step, timestamp)

    def forget(self) -> None:
        """Start over, because what was noted is proven, or will be sent again."""
        self._last = {}

    def missing_in(self, run: Run) -> list[str]:
        """The metrics whose last point ``run``, just read, does not show."""
        shown = run.data.last
        whole = len(shown) < SHOWN_WHOLE
        # MySQL's usual collations take "Loss" and "loss" for one name, and show one of them.
        alike = {key.casefold(): point for key, point in shown.items()}
        return [
            key
            for key, last in self._last.items()
            if _is_missing(shown.get(key) or alike.get(key.casefold()), last, whole=whole)
        ]


def _is_missing(shown: tuple[int, int] | None, last: tuple[int, int], *, whole: bool) -> bool:
    if shown is None:
        return whole
    step, timestamp = last
    return shown < (step, timestamp - ROUNDING_MS)
