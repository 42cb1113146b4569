"""``mlflow.log_metrics`` into a sqlite store: waiting as most training code does, without waiting, and with
``journal+`` before the address."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.loggers.base import Kept, Log, Logger
from benchmarks.samples import PREFIX
from benchmarks.store import URI

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _open(*, synchronous: bool = True, prefix: str = "") -> Iterator[Log]:
    import mlflow

    mlflow.set_tracking_uri(f"{prefix}{URI}")
    with mlflow.start_run():
        yield lambda metrics, step: mlflow.log_metrics(metrics, step=step, synchronous=synchronous)


def kept() -> Kept:
    """All points of the one run, by MLflow's client."""
    from mlflow.tracking import MlflowClient

    client = MlflowClient(URI)
    (run,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    found = [
        (name, point.step)
        for name in run.data.metrics
        if name.startswith(PREFIX)
        for point in client.get_metric_history(run.info.run_id, name)
    ]
    return Kept(found, run.info.status)


SYNCHRONOUS = Logger("mlflow", _open, kept, "returns when the database has committed", fast=False)
ASYNCHRONOUS = Logger(
    "mlflow",
    lambda: _open(synchronous=False),
    kept,
    "synchronous=False: a queue in memory, threads of the training process deliver; waits at exit",
)
JOURNALED = Logger(
    "mlflow",
    lambda: _open(prefix="journal+"),
    kept,
    "the same program, with journal+ before MLflow's address: returns when it is in trackside's journal",
    fast=False,
)
