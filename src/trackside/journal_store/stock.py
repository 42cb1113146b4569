"""What the journal store leans on in MLflow and is not public there. All of it is in this file.

If one of these names is gone, the store is made another way, or waits where it need not, and says so once.
"""

from __future__ import annotations

import inspect
import logging
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.address import is_server
from trackside.errors import ConfigurationError
from trackside.redaction.forms import mask_address
from trackside.system.once import Once

if TYPE_CHECKING:
    from types import FrameType

logger = logging.getLogger("trackside.journal_store")

_told = Once()

_LOOKS = {"_log_url", "_get_artifact_repo"}
"""Functions of MLflow's client that read a run for its addresses only. They are looked for on the stack."""

_DEPTH = 3
"""Frames from what MLflow calls of ours to the function that is looked for."""

_CREATES = {"start_run"}
"""Functions of MLflow's that ask for a run's tags. Datasets, models and traces ask for tags, too."""


def make_tracking_store(uri: str, artifact_uri: str | None) -> Any:
    """MLflow's own tracking store for ``uri``.

    MLflow's ``get_store`` can't be asked: it is waiting for us, and holds its lock.
    """
    try:
        from mlflow.tracking._tracking_service.utils import _tracking_store_registry

        registry: Any = _tracking_store_registry
        build = registry.get_store_builder(uri)
    except (ImportError, AttributeError) as error:
        _say("tracking store", error)
        return _made_by_hand(uri, artifact_uri)
    try:
        return build(store_uri=uri, artifact_uri=artifact_uri)
    except ImportError as error:
        raise ConfigurationError(
            f"the store at {mask_address(uri)} needs a package that is not installed ({error}): install it "
            "beside MLflow, such as psycopg2-binary for postgresql"
        ) from error


def make_registry_store(uri: str, tracking_uri: str | None) -> Any:
    """MLflow's own store for the model registry at ``uri``."""
    try:
        from mlflow.tracking._model_registry.utils import _get_store_registry

        find_registry: Any = _get_store_registry
        build = find_registry().get_store_builder(uri)
    except (ImportError, AttributeError) as error:
        _say("model registry", error)
        return _registry_by_hand(uri)
    known = inspect.signature(build).parameters  # MLflow asks, too: a database's has no tracking_uri
    takes_both = "tracking_uri" in known or any(one.kind is one.VAR_KEYWORD for one in known.values())
    return build(store_uri=uri, tracking_uri=tracking_uri) if takes_both else build(store_uri=uri)


def wants_addresses_only() -> bool:
    """Whether the run that the store is asked for is wanted for its addresses, whatever was logged to it.

    MLflow's client reads a run before the first file of it, and before it prints where to view the run.
    """
    return _is_called_by(_LOOKS)


def creates_run() -> bool:
    """Whether MLflow's own API asks for tags because it creates a run."""
    return _is_called_by(_CREATES)


def _is_called_by(names: set[str]) -> bool:
    """Whether one of MLflow's functions ``names`` has called the caller of our caller."""
    frame: FrameType | None = sys._getframe(3)  # noqa: SLF001 - as inspect.currentframe() does
    for _ in range(_DEPTH):
        if frame is None:
            return False
        if frame.f_code.co_name in names and frame.f_globals.get("__name__", "").startswith("mlflow."):
            return True
        frame = frame.f_back
    return False


def _made_by_hand(uri: str, artifact_uri: str | None) -> Any:
    if is_server(uri):
        from mlflow.store.tracking.rest_store import RestStore
        from mlflow.utils.credentials import get_default_host_creds

        server: Any = RestStore
        return server(partial(get_default_host_creds, uri))
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    database: Any = SqlAlchemyStore
    return database(uri, artifact_uri or "./mlruns")


def _registry_by_hand(uri: str) -> Any:
    if is_server(uri):
        from mlflow.store.model_registry.rest_store import RestStore
        from mlflow.utils.credentials import get_default_host_creds

        server: Any = RestStore
        return server(partial(get_default_host_creds, uri))
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    database: Any = SqlAlchemyStore
    return database(uri)


def _say(what: str, error: Exception) -> None:
    if _told.is_first(what):
        logger.warning("this MLflow makes its %s in a way that trackside does not know (%s)", what, error)
