"""The private parts of MLflow that the bulk store needs, and the check that they are unchanged.

The only file with such names. What was found there in MLflow 3.6 and 3.18 (``make newer-mlflow`` says what a
newer version changes of it):

- ``store.ManagedSessionMaker()``: a session that commits at the end, sets sqlite's pragmas and turns
  SQLAlchemy's errors into MLflow's (``mlflow/store/db/utils.py``); since 3.9 or so it must be told that
  it is to write.
- the tables ``runs``, ``metrics`` and ``latest_metrics`` and nothing else are touched by ``log_batch``
  where metrics have no ``model_id`` (``mlflow/store/tracking/sqlalchemy_store.py``).
- its own default for artifacts, which a server passes on in an environment variable.
"""

from __future__ import annotations

import inspect
import os
from typing import TYPE_CHECKING, Any

import mlflow
import sqlalchemy
from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH

from trackside.bulk_store.points import COLUMNS
from trackside.bulk_store.tables import WRITERS
from trackside.bulk_store.versions import why_unsupported

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

_PRIMARY_KEYS = {
    "metrics": {"key", "timestamp", "step", "run_uuid", "value", "is_nan"},
    "latest_metrics": {"key", "run_uuid"},
}
_RUN_COLUMNS = {"run_uuid", "lifecycle_stage"}


def why_not(store: Any) -> str | None:
    """Return why ``store`` (a ``SqlAlchemyStore``) cannot be written in bulk, or None if it can."""
    try:
        return why_unsupported(mlflow.__version__) or _wrong_schema(store.engine)
    except (AttributeError, sqlalchemy.exc.SQLAlchemyError) as error:
        return f"the database can't be looked at ({type(error).__name__})"


def writing_session(store: Any) -> AbstractContextManager[Any]:
    """A session of ``store`` that commits at the end, with MLflow's translation of errors."""
    make = store.ManagedSessionMaker
    options = {"read_only": False} if "read_only" in inspect.signature(make).parameters else {}
    session: AbstractContextManager[Any] = make(**options)
    return session


def artifact_root(given: str | None) -> str:
    """Return where artifacts of new experiments go by default, as in MLflow's ``_get_sqlalchemy_store``."""
    return given or os.environ.get("_MLFLOW_SERVER_ARTIFACT_ROOT") or DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH


def read_replica() -> dict[str, str]:
    """Return the stores' option for ``mlflow server --read-replica-backend-store-uri``."""
    uri = os.environ.get("_MLFLOW_SERVER_READ_REPLICA_BACKEND_STORE")
    return {"read_db_uri": uri} if uri else {}


def has_workspaces() -> bool:
    """Whether MLflow's stores must keep workspaces apart, which this one does not."""
    return os.environ.get("MLFLOW_ENABLE_WORKSPACES", "").lower() in {"true", "1"}


def links_metrics_to_a_model() -> bool:
    """Whether MLflow's client links all metrics of this thread to a model (``MLFLOW_ACTIVE_MODEL_ID``)."""
    return mlflow.get_active_model_id() is not None


def _wrong_schema(engine: sqlalchemy.Engine) -> str | None:
    if engine.dialect.name not in WRITERS:
        return f"it knows no {engine.dialect.name}"
    tables = sqlalchemy.inspect(engine)
    for table, key in _PRIMARY_KEYS.items():
        names = {column["name"] for column in tables.get_columns(table)}
        if names != set(COLUMNS) or set(tables.get_pk_constraint(table)["constrained_columns"]) != key:
            return f"the table {table} is not the one it knows"
    if not {column["name"] for column in tables.get_columns("runs")} >= _RUN_COLUMNS:
        return "the table runs is not the one it knows"
    return None
