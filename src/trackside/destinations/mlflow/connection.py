"""One run in MLflow: the client, the run's id, and what an error of MLflow's means.

Every request of the MLflow destination passes :meth:`Connection.call`.

Invariants:

* :meth:`Connection.call` raises a :class:`~trackside.errors.DeliveryError` and nothing else. Which one also
  depends on whether the run is known. An address that never worked is rejected, and one that did is retried.
* A database file or a journal that was removed is not made again.
* Metrics and params never share a request. ``log_batch`` writes params first, and fails as a whole on a param
  that has another value.

Metrics take a shorter way than MLflow's client, which makes three objects of each, then JSON through protocol
buffers: 28 µs of Python, about as much as it costs a server with the bulk store. They go straight into a
database that the bulk store can write. For a server only the body is made here (:func:`metrics_request`).
This is the only file of the destinations that uses private names of MLflow.
"""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.bulk_store.uri import can_be_bulk
from trackside.destinations.answers import bound_answers, limit_answers
from trackside.destinations.mlflow.address import database_file, is_server, require_server
from trackside.destinations.mlflow.credentials import guard_requests
from trackside.destinations.mlflow.database import alone_with, probe_database, require_path
from trackside.destinations.mlflow.errors import translate, translate_opening
from trackside.destinations.mlflow.settings import set_variables
from trackside.errors import (
    DeliveryError,
    DestinationFailedError,
    GoneError,
    RejectedError,
    RetryableError,
    UnauthorisedError,
)
from trackside.names import MAX_PARAMS_TAGS_PER_BATCH, MAX_TAG_VALUE_LENGTH, chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trackside.bulk_store.points import Point
    from trackside.bulk_store.store import BulkStore
    from trackside.destinations.mlflow.record import RunRecord
    from trackside.journal.meta import Meta
    from trackside.journal.outbox import Outbox

logger = logging.getLogger("trackside.destinations")

ENDPOINT = "/api/2.0/mlflow/runs/log-batch"

_OK = 200


def preload(tracking_uri: str) -> None:
    """Import what a connection to ``tracking_uri`` will need. Opens no store and no connection."""
    import mlflow.tracking

    if can_be_bulk(tracking_uri):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


class Connection:
    """Calls MLflow at ``uri`` for the run of ``meta``. Except for :meth:`renew`, for one worker.

    :meth:`log_points` may be called by several threads at once.
    """

    def __init__(self, meta: Meta, uri: str, *, record: RunRecord, outbox: Outbox) -> None:
        self.uri = uri
        self.client: Any = None
        """An ``MlflowClient``, once :meth:`open` has connected."""
        self.answered_at = 0.0
        """When MLflow last answered, or failed to."""
        self._meta = meta
        self._record = record
        self._outbox = outbox
        self._renewed_uri: str | None = None
        self._database = database_file(uri)
        self._bulk: BulkStore | None = None
        self._request: Callable[[str, Sequence[Point]], None] | None = None

    @property
    def run_id(self) -> str:
        """The id of the run, which must be known by now."""
        run = self._record.state.run
        assert run is not None  # noqa: S101 - the run was opened before
        return run.run_id

    # Connecting

    def open(self) -> None:
        """Connect, unless connected."""
        if self.client is None:
            self.client = self.call(self._connect)

    def renew(self, uri: str | None) -> None:
        """Use ``uri`` from the next :meth:`take_renewed` on. May be called by any thread.

        None keeps the address. MLflow reads the variables with credentials at each request.
        """
        self._renewed_uri = uri or self._renewed_uri

    def take_renewed(self) -> None:
        """Connect again if :meth:`renew` has given an address."""
        if self._renewed_uri is not None and self.client is not None:
            self.uri, self._renewed_uri = self._renewed_uri, None
            self.client = self.call(self._connect)

    def ask(self) -> None:
        """Make a small request. Raises what :meth:`call` raises if the server does not answer it."""
        self.open()
        self.call(self.client.search_experiments, max_results=1)

    def _connect(self) -> Any:
        require_server(self.uri)
        self._check_removed()
        set_variables()
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        guard_requests()
        bound_answers()
        limit_answers()
        self._metric: Callable[..., Any] = Metric
        self._param: Callable[..., Any] = Param
        self._tag: Callable[..., Any] = RunTag
        with alone_with(self.uri):
            probe_database(self.uri)
            client = MlflowClient(tracking_uri=self.uri)
        self._bulk = None
        self._request = metrics_request(client) if is_server(self.uri) else None
        return client

    # Calling

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call ``function``, one of MLflow's, and raise what its error means for the delivery."""
        if self.client is not None:
            self._require(self._database)
        try:
            return function(*arguments, **options)
        except DeliveryError:
            raise
        except Exception as error:
            raise self._translate(error) from error
        finally:
            self.answered_at = time.monotonic()

    def for_run(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call ``function`` with the run's id first.

        Raises :class:`DestinationFailedError` if the run was deleted.
        """
        try:
            return self.call(function, self.run_id, *arguments, **options)
        except RejectedError as error:
            self._check_run(error)
            raise

    def _translate(self, error: BaseException) -> DeliveryError:
        found = (translate if self._record.state.run else translate_opening)(error)
        if isinstance(found, UnauthorisedError):
            self._record.notice(
                f"MLflow refuses the credentials ({found}). Everything is kept, and delivered once you have "
                "corrected them"
            )
        return found

    def _check_run(self, rejection: RejectedError) -> None:
        try:
            run = self.call(self.client.get_run, self.run_id)
            gone = run.info.lifecycle_stage == "deleted"
        except RejectedError:
            gone = True
        if gone:
            msg = (
                f"run {self.run_id} was deleted ({rejection}). Restore it (mlflow runs restore --run-id "
                f"{self.run_id}) and run `trackside sync` to deliver what came after"
            )
            self._record.notice(msg)
            raise DestinationFailedError(msg) from rejection

    def _check_removed(self) -> None:
        """Raise :class:`GoneError` if connecting would make again what a user has removed."""
        if not self._outbox.has_place():
            raise GoneError("the journal was removed, and nothing is made again for it")
        same = database_file(self._meta.target.tracking_uri) == self._database
        if self._record.state.run is None:
            self._require(self._meta.store_path if same else None)
        elif same:
            self._require(self._database)

    def _require(self, path: str | None) -> None:
        try:
            require_path(path)
        except GoneError as error:
            self._record.notice(str(error))
            raise

    # Requests for the run

    def get_run(self) -> Any:
        """MLflow's record of the run, as it is now."""
        return self.for_run(self.client.get_run)

    def open_bulk_store(self) -> bool:
        """Have :meth:`log_points` write straight into the database. False if this database can't be."""
        if self._bulk is None:
            self._bulk = self.call(open_store, self.uri, self._record.notice)
        return self._bulk is not None

    def log_points(self, points: Sequence[Point]) -> None:
        """Log ``points`` in one request, or in one transaction of the bulk store."""
        if self._bulk is not None:
            self.for_run(self._bulk.log_points, points)
        elif self._request is not None:
            self.for_run(self._request, points)
        else:
            self.for_run(self.client.log_batch, metrics=[self._metric(*point) for point in points])

    def known_params(self) -> dict[str, str]:
        """The params that the run has."""
        return dict(self.get_run().data.params)

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log params that the run does not have yet, in one request."""
        self.for_run(self.client.log_batch, params=[self._param(*item) for item in params.items()])

    def log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of any run. Long values are cut."""
        made = [self._tag(key, value[:MAX_TAG_VALUE_LENGTH]) for key, value in tags.items()]
        for chunk in chunks(made, MAX_PARAMS_TAGS_PER_BATCH):
            self.call(self.client.log_batch, run_id, tags=chunk)


def metrics_request(client: Any) -> Callable[[str, Sequence[Point]], None] | None:
    """A function that logs points of a run to the server of ``client``, an ``MlflowClient``, or None.

    It raises what MLflow's client raises. The address, credentials, headers, session, retries and the check
    of the answer are MLflow's. 3.6 and 3.17 have the same private names. If one is missing, or the client has
    another kind of store, the client's ``log_batch`` is used.
    """
    try:
        from mlflow import get_active_model_id
        from mlflow.store.tracking.rest_store import RestStore
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        store = client._tracking_client.store  # noqa: SLF001
        if type(store) is not RestStore or get_active_model_id() is not None:
            return None
        host_credentials = store.get_host_creds
    except (ImportError, AttributeError):
        return None
    post: Callable[..., Any] = http_request
    check: Callable[..., Any] = verify_rest_response

    def request(run_id: str, points: Sequence[Point]) -> None:
        response = post(
            host_credentials(),
            ENDPOINT,
            "POST",
            data=body_of(run_id, points),
            extra_headers={"Content-Type": "application/json"},
        )
        if response.status_code == _OK and not response.text.strip():
            # MLflow's check takes it for its own answer, which is a JSON object, an empty one at least.
            raise RetryableError("the answer is empty, so it is not MLflow's: is there a proxy in between?")
        check(response, ENDPOINT)

    return request


def body_of(run_id: str, points: Sequence[Point]) -> bytes:
    """The JSON of MLflow's REST API for ``log-batch``. Pure."""
    metrics = [
        {"key": key, "value": _json_value(value), "timestamp": timestamp, "step": step}
        for key, value, timestamp, step in points
    ]
    return msgspec.json.encode({"run_id": run_id, "metrics": metrics})


def _json_value(value: float) -> float | str:
    """NaN and infinity, which JSON lacks, as protocol buffers write them."""
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124


def open_store(uri: str, notice: Callable[[str], None]) -> BulkStore | None:
    """The bulk store at ``uri``, whose tables exist. None if metrics have to go through MLflow's client.

    ``notice`` tells the user why the bulk store can't be used. Raises what MLflow and SQLAlchemy raise.
    """
    from trackside.bulk_store import stock
    from trackside.bulk_store.store import BulkStore

    if stock.links_metrics_to_a_model():
        logger.info("metrics also belong to a model, so they go through MLflow's client")
        return None
    store = BulkStore(uri, stock.artifact_root(None))
    if store.why_not is not None:
        notice(
            "trackside's bulk store is off, and metrics go MLflow's own way, several times slower: "
            f"{store.why_not}. To keep it so without this warning, set TRACKSIDE_BULK_STORE=off"
        )
        return None
    return store
