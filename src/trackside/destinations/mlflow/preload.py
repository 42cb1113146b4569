"""What a connection to an address will import, imported ahead of it: by a process that forks shippers.

Invariant: nothing is opened, neither a store nor a connection, and no thread is started.
"""

from __future__ import annotations

import contextlib
import importlib

from trackside.bulk_store.uri import can_be_bulk, plain_uri
from trackside.destinations.mlflow.client_choice import why_mlflow
from trackside.destinations.mlflow.importing import import_mlflow

_REST = ("requests", "trackside.destinations.mlflow.rest_client")

_DATABASE = (
    "alembic.command",
    "alembic.config",
    "mlflow.store.tracking.sqlalchemy_store",
    "mlflow.store.tracking.sqlalchemy_workspace_store",  # of MLflow's from 3.9 on
    "trackside.bulk_store.stock",
    "trackside.bulk_store.store",
)
"""Without these, each fork would import them again: 30 ms, and 10 MiB that it shares with no other."""


def preload(tracking_uri: str) -> None:
    """Import what a connection to ``tracking_uri`` will need."""
    if why_mlflow(tracking_uri) is None:
        _import(*_REST)
        return
    import_mlflow()
    _import("trackside.destinations.mlflow.through_mlflow")
    if can_be_bulk(tracking_uri):
        _import(*_DATABASE)
        _import_dialect(plain_uri(tracking_uri))


def _import(*names: str) -> None:
    for name in names:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)


def _import_dialect(address: str) -> None:
    from sqlalchemy.engine import make_url

    with contextlib.suppress(Exception):  # of an address that is no good, as the shipper will find
        make_url(address).get_dialect().import_dbapi()
