"""MLflow's own store and ours, each with a database of its own, given the same and then compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import sqlalchemy
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from trackside.bulk_store.store import BulkStore

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mlflow.entities import Metric, Param, RunTag

RUN_TABLES = ("metrics", "latest_metrics", "params", "tags", "runs")
RUN = "<run>"


class Batch(NamedTuple):
    """What one call of ``log_batch`` is given."""

    metrics: Sequence[Metric] = ()
    params: Sequence[Param] = ()
    tags: Sequence[RunTag] = ()


class Pair:
    """A run in each of two stores; :meth:`renew` starts another one."""

    def __init__(self, stock_uri: str, our_uri: str) -> None:
        self.stock = SqlAlchemyStore(stock_uri, "/nowhere/artifacts")
        self.ours = BulkStore(our_uri, "/nowhere/artifacts")
        assert self.ours.is_bulk
        self.renew()

    def renew(self) -> None:
        """A run that has nothing, in each."""
        self.runs: list[tuple[Any, str]] = [
            (store, store.create_run("0", "tester", 1, [], "a run").info.run_id)
            for store in (self.stock, self.ours)
        ]
        self._before = [_lengths(store) for store, _ in self.runs]

    def log(self, batch: Batch, **other: Any) -> Any:
        """Give both the batch; the answer, which must be the same."""
        lists = [list(items) for items in batch]
        return self.call(lambda store, run_id: store.log_batch(run_id, *lists), **other)

    def call(self, function: Callable[[Any, str], Any], runs: Any = None) -> Any:
        """Call ``function(store, run_id)`` for both; what it raises, as text, must be the same."""
        stock, ours = (_outcome(function, store, run_id) for store, run_id in runs or self.runs)
        assert ours == stock
        return ours

    def compare(self) -> dict[str, Any]:
        """What the run has in every table must be the same, and so must what each table has gained."""
        stock, ours = (_contents(store, run_id) for store, run_id in self.runs)
        assert ours == stock
        gains = [
            {table: length - before[table] for table, length in _lengths(store).items()}
            for before, (store, _) in zip(self._before, self.runs, strict=True)
        ]
        assert gains[1] == gains[0]
        return ours | {"gains": gains[1]}


def _outcome(function: Callable[[Any, str], Any], store: Any, run_id: str) -> Any:
    try:
        function(store, run_id)
    except MlflowException as error:
        return error.error_code, str(error).replace(run_id, RUN)
    except Exception as error:
        return type(error), str(error).replace(run_id, RUN)
    return None


def _lengths(store: Any) -> dict[str, int]:
    with store.engine.connect() as connection:
        return {
            table: connection.exec_driver_sql(f"SELECT count(*) FROM {table}").scalar_one()
            for table in sqlalchemy.inspect(connection).get_table_names()
        }


def _contents(store: Any, run_id: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    with store.engine.connect() as connection:
        for table in RUN_TABLES:
            query = sqlalchemy.text(f"SELECT * FROM {table} WHERE run_uuid = :run_id")
            rows = connection.execute(query, {"run_id": run_id}).mappings()
            found[table] = sorted(_plain(row, run_id) for row in rows)
    return found


def _plain(row: Any, run_id: str) -> list[tuple[str, str]]:
    """By name: the order of the columns depends on the migrations that the database went through."""
    named = {name: value for name, value in row.items() if name != "deleted_time"}  # the clock's
    return sorted((name, repr(value).replace(run_id, RUN)) for name, value in named.items())
