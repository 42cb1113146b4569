"""Lightning's ``MLFlowLogger``, without a Trainer."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.loggers.base import Log, Logger
from benchmarks.loggers.mlflow import kept
from benchmarks.store import URI

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _open() -> Iterator[Log]:
    from lightning.pytorch.loggers import MLFlowLogger

    logger = MLFlowLogger("bench", tracking_uri=URI)
    assert logger.run_id is not None  # the run is made when it is asked for; a Trainer asks at its start
    yield logger.log_metrics
    logger.finalize("success")


LOGGER = Logger(
    "lightning.pytorch.loggers",
    _open,
    kept,
    "MLFlowLogger; returns when the database has committed",
    fast=False,
)
