"""Importing MLflow, one thread at a time.

The shipper's threads need it at moments of their own: a worker for each destination, the thread that uploads.
Two threads that import a package with circular imports at once find parts of it missing. So every thread asks
here first.
"""

from __future__ import annotations

import threading

_lock = threading.Lock()


def import_mlflow() -> None:
    """Import what the destinations use of MLflow, unless that was done."""
    with _lock:
        import mlflow.entities
        import mlflow.store.artifact.artifact_repository_registry
        import mlflow.tracking  # noqa: F401
