"""One run in MLflow: the client, the run's id, and what an error of MLflow's means.

Every request of the MLflow destination passes :meth:`Connection.call`.

Invariants:

* :meth:`Connection.call` raises a :class:`~trackside.errors.DeliveryError` and nothing else. Which one also
  depends on whether the run is known. An address that never worked is rejected, and one that did is retried.
* A database file or a journal that was removed is not made again.
* Metrics and params never share a request. ``log_batch`` writes params first, and fails as a whole on a param
  that has another value.

Which client makes the requests is decided here, once, by
:func:`~trackside.destinations.mlflow.client_choice.why_mlflow`. Metrics go straight into a database that the
bulk store can write.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from trackside.destinations.answers import bound_answers, limit_answers
from trackside.destinations.mlflow.address import database_file, require_server
from trackside.destinations.mlflow.client_choice import is_proxied, why_mlflow
from trackside.destinations.mlflow.credentials import guard_requests
from trackside.destinations.mlflow.database import alone_with, probe_database, require_path
from trackside.destinations.mlflow.errors import translate, translate_opening
from trackside.destinations.mlflow.settings import set_variables
from trackside.errors import (
    DeliveryError,
    DestinationFailedError,
    GoneError,
    RejectedError,
    UnauthorisedError,
)
from trackside.names import MAX_PARAMS_TAGS_PER_BATCH, MAX_TAG_VALUE_LENGTH, chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trackside.bulk_store.points import Point
    from trackside.bulk_store.store import BulkStore
    from trackside.destinations.mlflow.record import RunRecord
    from trackside.destinations.mlflow.tracking import Run, TrackingClient
    from trackside.journal.meta import Meta
    from trackside.journal.outbox import Outbox

logger = logging.getLogger("trackside.destinations")


class Connection:
    """Calls MLflow at ``uri`` for the run of ``meta``. Except for :meth:`renew`, for one worker.

    :meth:`log_points` may be called by several threads at once.
    """

    def __init__(self, meta: Meta, uri: str, *, record: RunRecord, outbox: Outbox) -> None:
        self.uri = uri
        self._client: TrackingClient | None = None
        self.answered_at = 0.0
        """When MLflow last answered, or failed to."""
        self._meta = meta
        self._record = record
        self._outbox = outbox
        self._renewed_uri: str | None = None
        self._database = database_file(uri)
        self._bulk: BulkStore | None = None
        self.sending_metrics = threading.Lock()
        """Held while a batch of metrics is sent."""

    @property
    def client(self) -> TrackingClient:
        """What makes the requests, once :meth:`open` has connected."""
        assert self._client is not None  # noqa: S101 - it was opened before
        return self._client

    @property
    def journal_id(self) -> str:
        """The id of the journal that is delivered."""
        return self._meta.journal_id

    @property
    def run_id(self) -> str:
        """The id of the run, which must be known by now."""
        run = self._record.state.run
        assert run is not None  # noqa: S101 - the run was opened before
        return run.run_id

    # Connecting

    def open(self) -> None:
        """Connect, unless connected."""
        if self._client is None:
            self._client = self.call(self._connect)

    def renew(self, uri: str | None) -> None:
        """Use ``uri`` from the next :meth:`take_renewed` on. May be called by any thread.

        None keeps the address. The variables with credentials are read at each request.
        """
        self._renewed_uri = uri or self._renewed_uri

    def take_renewed(self) -> None:
        """Connect again if :meth:`renew` has given an address."""
        if self._renewed_uri is not None and self._client is not None:
            self.uri, self._renewed_uri = self._renewed_uri, None
            self._client = self.call(self._connect)

    def ask(self) -> None:
        """Make a small request. Raises what :meth:`call` raises if the server does not answer it."""
        self.open()
        self.call(self.client.ping)

    def _connect(self) -> TrackingClient:
        require_server(self.uri)
        self._check_removed()
        set_variables()
        guard_requests()
        bound_answers()
        limit_answers()
        self._bulk = None
        return connect(self.uri)

    # Calling

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call ``function``, one of the client's, and raise what its error means for the delivery."""
        if self._client is not None:
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

    def get_run(self) -> Run:
        """The run, as the store shows it now."""
        run: Run = self.for_run(self.client.get_run)
        return run

    def open_bulk_store(self) -> bool:
        """Have :meth:`log_points` write straight into the database. False if this database can't be."""
        if self._bulk is None:
            self._bulk = self.call(open_store, self.uri, self._record.notice)
        return self._bulk is not None

    def log_points(self, points: Sequence[Point]) -> None:
        """Log ``points`` in one request, or in one transaction of the bulk store."""
        if self._bulk is not None:
            self.for_run(self._bulk.log_points, points)
        else:
            self.for_run(self.client.log_points, points)

    def log_points_beside(self, points: Sequence[Point]) -> None:
        """Log points of metrics that no batch holds, from another thread than the worker's.

        It waits until no request with metrics is in flight, which might share a key with them.
        """
        with self.sending_metrics:
            self.log_points(points)

    def needs_mlflow_to_upload(self, artifact_uri: str) -> bool:
        """Whether MLflow would be imported to upload to ``artifact_uri``, and is not needed otherwise."""
        return self.client.is_light and not is_proxied(artifact_uri)

    def known_params(self) -> dict[str, str]:
        """The params that the run has."""
        return dict(self.get_run().data.params)

    def log_params(self, params: Mapping[str, str]) -> None:
        """Log params that the run does not have yet, in one request."""
        self.for_run(self.client.log_params, params)

    def log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set tags of any run. Long values are cut."""
        cut = [(key, value[:MAX_TAG_VALUE_LENGTH]) for key, value in tags.items()]
        for chunk in chunks(cut, MAX_PARAMS_TAGS_PER_BATCH):
            self.call(self.client.log_tags, run_id, dict(chunk))


def connect(uri: str) -> TrackingClient:
    """A client for the store at ``uri``."""
    reason = why_mlflow(uri)
    if reason is None:
        from trackside.destinations.mlflow.rest_client import RestClient

        logger.info("the server is talked to by its REST API")
        return RestClient(uri)
    from trackside.destinations.mlflow.through_mlflow import ThroughMLflow

    logger.info("the store is reached through MLflow, because %s", reason)
    with alone_with(uri):
        probe_database(uri)
        return ThroughMLflow(uri)


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
