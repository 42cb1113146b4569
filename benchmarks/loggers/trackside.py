"""``trackside.log`` into a sqlite store, or into another address that a variable names."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.loggers.base import Log, Logger
from benchmarks.loggers.mlflow import kept
from benchmarks.store import URI

if TYPE_CHECKING:
    from collections.abc import Iterator

ADDRESS = "BENCHMARKS_TRACKING_URI"
"""The variable with another address than that of the sqlite store."""

OTHERS = ("tensorboard", "jsonl", "parquet", {"type": "wandb", "mode": "offline"})


@contextmanager
def _open(destinations: tuple[Any, ...] = ()) -> Iterator[Log]:
    import trackside

    with trackside.start("bench", tracking_uri=os.environ.get(ADDRESS, URI), destinations=list(destinations)):
        yield lambda metrics, step: trackside.log(metrics, step=step)


ALONE = Logger("trackside", _open, kept, "the shipper, a process of its own, delivers")
FIVE_DESTINATIONS = Logger(
    "trackside",
    lambda: _open(OTHERS),
    kept,
    "MLflow, TensorBoard, JSON Lines, Parquet and W&B (offline) from one shipper; read back from MLflow",
)
