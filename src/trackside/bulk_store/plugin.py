"""Factories for MLflow's entry points: the stores for ``trackside+sqlite`` and ``trackside+postgresql``.

The groups ``mlflow.tracking_store`` and ``mlflow.model_registry_store``, a name for each spelling of the
scheme (``pyproject.toml``). The model registry's tables are not ours to write, so it gets MLflow's store.
"""

from __future__ import annotations

import logging
from typing import Any

from trackside.bulk_store.uri import plain_uri

logger = logging.getLogger("trackside.bulk_store")


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:
    """Return the store for ``store_uri``. With workspaces on, that is MLflow's own."""
    from trackside.bulk_store import stock
    from trackside.bulk_store.store import BulkStore

    root = stock.artifact_root(artifact_uri)
    if stock.has_workspaces():
        from mlflow.store.tracking.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

        logger.warning(
            "trackside's bulk store is off, and metrics go MLflow's own way, several times slower: "
            "workspaces are on"
        )
        workspaces: Any = WorkspaceAwareSqlAlchemyStore
        return workspaces(plain_uri(store_uri), root, **stock.read_replica())
    return BulkStore(store_uri, root, **stock.read_replica())


def model_registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:  # noqa: ARG001 - MLflow's
    """MLflow's own store for the model registry in the same database."""
    from trackside.bulk_store import stock

    if stock.has_workspaces():
        from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

        workspaces: Any = WorkspaceAwareSqlAlchemyStore
        return workspaces(plain_uri(store_uri), **stock.read_replica())
    from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore

    plain: Any = SqlAlchemyStore
    return plain(plain_uri(store_uri), **stock.read_replica())
