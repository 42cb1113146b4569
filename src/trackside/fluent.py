"""Making a run MLflow's fluent active run in this process, and taking it back in time.

MLflow ends a fluent run as FINISHED when the interpreter exits, whatever happened. So ours is ended here
first, with the status it really has; the shipper's word, which comes later, is the last in any case.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, NamedTuple

from trackside import mlflow_utils

if TYPE_CHECKING:
    from collections.abc import Iterator


class ActiveRun(NamedTuple):
    """A run that MLflow's own API has made active."""

    run_id: str
    experiment_id: str
    tracking_uri: str


_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "5"}
"""MLflow's own would keep the end of a process waiting for minutes when the server is down."""


def active() -> ActiveRun | None:
    """The active run of this thread; None without one, or while nobody has imported MLflow."""
    mlflow = sys.modules.get("mlflow")
    with contextlib.suppress(Exception):  # half imported, or an MLflow that we do not know
        run = None if mlflow is None else mlflow.active_run()
        if mlflow is not None and run is not None:
            return ActiveRun(run.info.run_id, run.info.experiment_id, str(mlflow.get_tracking_uri()))
    return None


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
