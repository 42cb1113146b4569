"""Making a run MLflow's fluent active run in this process, and taking it back in time.

MLflow ends a fluent run as FINISHED when the interpreter exits, whatever happened. So ours is ended here
first, with the status it really has; the shipper's word, which comes later, is the last in any case.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from trackside import mlflow_utils

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""MLflow's own would keep the end of a process waiting for minutes when the server is down."""


def activate(tracking_uri: str, run_id: str) -> None:
    """Make ``run_id`` the active run of this thread; raises what MLflow raises."""
    mlflow = mlflow_utils.import_mlflow()
    mlflow.set_tracking_uri(tracking_uri)
    mlflow.start_run(run_id=run_id)


def deactivate(status: str) -> None:
    """End this thread's active run as ``status``; what goes wrong is logged."""
    with _impatient():
        mlflow_utils.end_active_runs(status)


@contextlib.contextmanager
def _impatient() -> Iterator[None]:
    before = {name: os.environ.get(name) for name in _PATIENCE}
    os.environ.update(_PATIENCE)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
