"""How each library logs a dict of metrics at a step: one context manager a library.

Each yields the function that is timed. Whatever a library wants to do before and after is not timed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

Log = Callable[[dict[str, float], int], object]


@contextmanager
def trackside() -> Iterator[Log]:
    """``trackside.log`` into a sqlite store."""
    import trackside

    run = trackside.start("bench", tracking_uri="sqlite:///mlflow.db")

    def log(metrics: dict[str, float], step: int) -> None:
        trackside.log(metrics, step=step)

    yield log
    run.finish()


@contextmanager
def trackside_fan_out() -> Iterator[Log]:
    """The same, with four more destinations: TensorBoard, W&B (offline), JSON Lines and Parquet."""
    import trackside

    destinations = ["tensorboard", "jsonl", "parquet", {"type": "wandb", "mode": "offline"}]
    run = trackside.start("bench", tracking_uri="sqlite:///mlflow.db", destinations=destinations)

    def log(metrics: dict[str, float], step: int) -> None:
        trackside.log(metrics, step=step)

    yield log
    run.finish()


@contextmanager
def mlflow_sync() -> Iterator[Log]:
    """``mlflow.log_metrics`` into a sqlite store, as most training code does."""
    import mlflow

    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    with mlflow.start_run():
        yield lambda metrics, step: mlflow.log_metrics(metrics, step=step)


@contextmanager
def mlflow_async() -> Iterator[Log]:
    """``mlflow.log_metrics(synchronous=False)`` into a sqlite store."""
    import mlflow

    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    with mlflow.start_run():
        yield lambda metrics, step: mlflow.log_metrics(metrics, step=step, synchronous=False)
        mlflow.flush_async_logging()


@contextmanager
def trackio() -> Iterator[Log]:
    """``trackio.log`` into its own local store."""
    import os

    os.environ["TRACKIO_DIR"] = os.getcwd()
    import trackio

    trackio.init(project="bench", embed=False)
    yield lambda metrics, step: trackio.log(metrics, step=step)
    trackio.finish()


LOGGERS: dict[str, Callable[[], AbstractContextManager[Log]]] = {
    "trackside": trackside,
    "trackside, five destinations": trackside_fan_out,
    "mlflow": mlflow_sync,
    "mlflow async": mlflow_async,
    "trackio": trackio,
}

CALLS = {
    "trackside": 5_000,
    "trackside, five destinations": 5_000,
    "mlflow": 150,
    "mlflow async": 1_000,
    "trackio": 5_000,
}
"""Calls timed: enough for the tail of a fast one, and no more than a slow one can do in a few seconds."""
