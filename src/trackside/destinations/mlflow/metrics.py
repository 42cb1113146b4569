"""A batch of metrics on its way to MLflow: names made valid, requests paced, and proof that all arrived.

Whether a database can be written in bulk is asked with the first metrics. ``start()`` waits for the run, and
it need not wait for this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.destinations.mlflow import bulk
from trackside.destinations.mlflow.address import is_server
from trackside.destinations.mlflow.concurrent import ConcurrentSender
from trackside.destinations.mlflow.pace import Pace
from trackside.destinations.mlflow.proof import LastPoints
from trackside.destinations.mlflow.settings import request_timeout
from trackside.errors import UnprovenError
from trackside.names import MAX_METRICS_PER_BATCH, valid_name
from trackside.settings import read_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.bulk_store.points import Point
    from trackside.destinations.mlflow.connection import Connection
    from trackside.journal.format import MetricsRecord


class MetricsSender:
    """Sends the metrics of one run over ``connection``. ``notice`` tells the user something."""

    def __init__(self, connection: Connection, *, notice: Callable[[str], None]) -> None:
        self._connection = connection
        self._notice = notice
        self._names: dict[str, str] = {}
        self._is_server = is_server(connection.uri)
        self._last = LastPoints()
        self._wants_bulk = bulk.is_wanted(connection.uri)
        self._sender = self._new_sender(bulk.POINTS_PER_WRITE if self._wants_bulk else MAX_METRICS_PER_BATCH)

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
            (self.valid(name), value, record.timestamp_ms, record.step)
            for record in records
            for name, value in record.named_values().items()
        ]

    def _note(self, points: Sequence[Point]) -> None:
        if self._is_server:  # a database in this process needs no proof
            self._last.note(points)

    def _new_sender(self, points: int) -> ConcurrentSender:
        """At most ``points`` a request. A server, which has several processes, gets several at once."""
        at_once = read_environment().requests_in_flight if self._is_server else 1
        pace = Pace(points, patience=request_timeout(), at_once=at_once)
        return ConcurrentSender(pace, self._connection.log_points)
