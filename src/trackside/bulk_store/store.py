"""MLflow's tracking store for databases, with a ``log_batch`` that writes metrics in bulk.

MLflow makes an ORM object of each metric (some 80 µs). Here a batch is two statements. Everything but
plain metrics (params, tags, metrics linked to models, whatever is invalid, deleted or unknown) goes to
MLflow's own methods, so that its rules and messages are MLflow's, whichever version that is.
"""

from __future__ import annotations

import logging
import random
import time
from typing import TYPE_CHECKING, Any

from mlflow.entities import Metric
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.utils.validation import MAX_ENTITIES_PER_BATCH, MAX_METRICS_PER_BATCH, MAX_PARAMS_TAGS_PER_BATCH

from trackside.bulk_store.points import PLAIN, Point, Row, is_plain_run_id, is_plain_tag, rows_of
from trackside.bulk_store.stock import why_not, writing_session
from trackside.bulk_store.tables import WRITERS, is_active
from trackside.bulk_store.uri import plain_uri

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow.entities import Param, RunTag

logger = logging.getLogger("trackside.bulk_store")

DEADLOCK_RETRIES = 3
"""As many as in MLflow, with its pauses (``_run_with_deadlock_retry``)."""


class BulkStore(SqlAlchemyStore):
    """MLflow's store at ``db_uri``, which may have ``trackside+`` before it.

    With a version of MLflow or with tables that it does not know, it behaves as MLflow's own store and says
    so once in the log. :attr:`is_bulk` is then False, and :attr:`why_not` says why.
    """

    def __init__(self, db_uri: str, default_artifact_root: str, **options: Any) -> None:
        super().__init__(plain_uri(db_uri), default_artifact_root, **options)  # type: ignore[no-untyped-call]
        self.why_not = why_not(self)
        self.is_bulk = self.why_not is None
        if self.why_not is None:
            self._write_rows = WRITERS[self.engine.dialect.name]
        else:
            logger.warning(
                "trackside's bulk store is off, and metrics go MLflow's own way, several times slower: %s",
                self.why_not,
            )

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
    ) -> None:
        """As in MLflow, with its limits and its order: params, metrics, tags. Each commits separately."""
        rows = self._rows_of_batch(run_id, metrics, params, tags)
        if not rows:
            self._log_batch_as_stock(run_id, metrics, params, tags)
            return
        if params:
            self._log_batch_as_stock(run_id, (), params, ())
        if not self._write(run_id, rows):
            self._log_batch_as_stock(run_id, metrics, (), tags)
        elif tags:
            self._log_batch_as_stock(run_id, (), (), tags)

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Store metrics as :meth:`log_batch` does, any number of them in one transaction.

        Those that belong to a logged model or a dataset are stored after the others, by MLflow's own method.
        Raises what ``log_batch`` raises; of points of which one is refused, up to 1000 at a time may have
        been stored.
        """
        plain = [point for point in points if len(point) == PLAIN]
        rows = rows_of(run_id, plain) if self.is_bulk and is_plain_run_id(run_id) else None
        if rows is None or (rows and not self._write(run_id, rows)):
            self._log_points_as_stock(run_id, plain)
        if len(plain) < len(points):
            self._log_points_as_stock(run_id, [point for point in points if len(point) != PLAIN])

    def _log_points_as_stock(self, run_id: str, points: Sequence[Point]) -> None:
        for start in range(0, len(points), MAX_METRICS_PER_BATCH):
            chunk = points[start : start + MAX_METRICS_PER_BATCH]
            self._log_batch_as_stock(run_id, [Metric(*point) for point in chunk], (), ())

    def _rows_of_batch(
        self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
    ) -> list[Row] | None:
        """Return rows for ``metrics``, or None if the batch is for MLflow's own method."""
        if (
            not self.is_bulk
            or not is_plain_run_id(run_id)
            or not _within_limits(len(metrics), len(params), len(tags))
            or not all(is_plain_tag(tag.key, tag.value) for tag in tags)
            or any(metric.model_id is not None for metric in metrics)
        ):
            return None
        return rows_of(run_id, ((m.key, m.value, m.timestamp, m.step) for m in metrics))

    def _write(self, run_id: str, rows: list[Row]) -> bool:
        """Store ``rows``. If the run is deleted or unknown, store nothing and return False."""
        for attempt in range(DEADLOCK_RETRIES):
            try:
                return self._write_once(run_id, rows)
            except MlflowException as error:
                if error.error_code != "TEMPORARILY_UNAVAILABLE" or "deadlock" not in str(error).lower():
                    raise
                time.sleep(2**attempt - 1 + random.uniform(0, 1))  # noqa: S311 - jitter
        return self._write_once(run_id, rows)

    def _write_once(self, run_id: str, rows: list[Row]) -> bool:
        with writing_session(self) as session:
            connection = session.connection()
            active = is_active(connection, run_id)
            if active:
                self._write_rows(connection, rows)
            return active

    def _log_batch_as_stock(
        self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
    ) -> None:
        stock: Any = super()  # MLflow's methods carry no types
        stock.log_batch(run_id, metrics, params, tags)


def _within_limits(metrics: int, params: int, tags: int) -> bool:
    return (
        metrics <= MAX_METRICS_PER_BATCH
        and max(params, tags) <= MAX_PARAMS_TAGS_PER_BATCH
        and metrics + params + tags <= MAX_ENTITIES_PER_BATCH
    )
