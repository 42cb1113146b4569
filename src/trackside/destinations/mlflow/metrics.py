"""The way that metrics take: in bulk into a database, in requests to a server, else by MLflow's client.

Whether a database can be written in bulk is asked when there are metrics, because ``start()`` waits for the
run and not for this. At most 1000 points go in a request (``MAX_METRICS_PER_BATCH`` in
``mlflow/utils/validation.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow import bulk as mlflow_bulk
from trackside.destinations.mlflow.address import is_server
from trackside.destinations.mlflow.concurrent import ConcurrentSender
from trackside.destinations.mlflow.pace import Pace
from trackside.destinations.mlflow.params import MAX_KEY
from trackside.destinations.mlflow.proof import LastPoints
from trackside.destinations.mlflow.request import metrics_request
from trackside.names import valid_name
from trackside.settings import read_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.bulk_store.points import Point
    from trackside.bulk_store.store import BulkStore
    from trackside.journal.format import MetricsRecord

MAX_METRICS_PER_BATCH = 1000


class MetricsSender:
    """Sends metrics of a run to ``tracking_uri``.

    ``call`` and ``tell`` call a function of MLflow's and translate what it raises; ``tell`` gives it the
    run's id, too. ``notice`` tells the user. ``patience`` is what a request may take, in seconds.
    """

    def __init__(
        self,
        tracking_uri: str,
        *,
        call: Callable[..., Any],
        tell: Callable[..., Any],
        notice: Callable[[str], None],
        patience: float,
    ) -> None:
        self._uri = tracking_uri
        self._call = call
        self._tell = tell
        self._notice = notice
        self._patience = patience
        self._names: dict[str, str] = {}
        self.last = LastPoints()
        """Of what was acknowledged; a database in this process needs no proof."""
        self._needs_proof = is_server(tracking_uri)
        self._wants_bulk = mlflow_bulk.is_wanted(tracking_uri)
        self._bulk: BulkStore | None = None
        self._request: Callable[[str, Sequence[Point]], None] | None = None
        self._take(mlflow_bulk.POINTS_PER_WRITE if self._wants_bulk else MAX_METRICS_PER_BATCH)

    def connect(self, client: Any, make_metric: Callable[..., Any], *, patience: float) -> None:
        """Use ``client``, an ``MlflowClient``, and its kind of metric, where there is no better way."""
        self._client, self._metric = client, make_metric
        self._patience = patience
        self._take(self._flight.pace.size)
        self._request = metrics_request(client) if is_server(self._uri) else None

    def renew(self, tracking_uri: str) -> None:
        """Use the same address with other credentials; :meth:`connect` follows."""
        self._uri, self._bulk = tracking_uri, None

    @property
    def batch_points(self) -> int:
        """How many points it is best given at once, as things are."""
        return self._flight.pace.batch_points

    def send(self, records: Sequence[MetricsRecord]) -> None:
        """Send all points of ``records``; to a server in several requests at once, if it is quick."""
        if self._wants_bulk and self._bulk is None:
            self._open_bulk()
        self._flight.send(
            [
                (self.valid(name), value, record.timestamp_ms, record.step)
                for record in records
                for name, value in record.named_values().items()
            ]
        )

    def resend(self, record: MetricsRecord) -> None:
        """Send a record again that was taken before, in a request of its own."""
        points = record.named_values().items()
        self._send_points(
            [(self.valid(name), value, record.timestamp_ms, record.step) for name, value in points]
        )

    def valid(self, name: str) -> str:
        """``name``, or what is nearest to it that MLflow takes."""
        valid = self._names.get(name)
        if valid is None:
            valid = self._names[name] = valid_name(name, MAX_KEY)
            if valid != name:
                self._notice(f"metric {name!r} is not a name MLflow takes; it is logged as {valid!r}")
        return valid

    def _open_bulk(self) -> None:
        self._bulk = self._call(mlflow_bulk.open_store, self._uri, self._notice)
        if self._bulk is None:
            self._wants_bulk = False
            self._take(MAX_METRICS_PER_BATCH)

    def _take(self, points: int) -> None:
        """At most ``points`` a request; several at once for a server, whose processes may share the work."""
        at_once = read_environment().requests_in_flight if is_server(self._uri) else 1
        self._flight = ConcurrentSender(
            Pace(points, patience=self._patience, at_once=at_once), self._send_points
        )

    def _send_points(self, points: Sequence[Point]) -> None:
        if self._bulk is not None:
            self._tell(self._bulk.log_points, points)
        elif self._request is not None:
            self._tell(self._request, points)
        else:
            self._tell(self._client.log_batch, metrics=[self._metric(*point) for point in points])
        if self._needs_proof:
            self.last.note(points)
