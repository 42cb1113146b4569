"""What is logged as a file, and how each library logs it: a module a library."""

from __future__ import annotations

from benchmarks.artifacts import mlflow, tensorboard, trackside, wandb
from benchmarks.artifacts.base import Calls, Library
from benchmarks.artifacts.things import KINDS, Kind

__all__ = ["KINDS", "LIBRARIES", "Calls", "Kind", "Library"]

LIBRARIES: dict[str, Library] = {
    "trackside": trackside.LIBRARY,
    "mlflow": mlflow.LIBRARY,
    "wandb": wandb.LIBRARY,
    "tensorboard": tensorboard.LIBRARY,
}
