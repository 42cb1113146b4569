"""How each library logs a dict of metrics at a step, and how what it kept is read: a module a library."""

from __future__ import annotations

from benchmarks.loggers import (
    aim,
    by_hand,
    lightning,
    mlflow,
    neptune,
    tensorboard,
    trackio,
    trackside,
    wandb,
)
from benchmarks.loggers.base import Kept, Log, Logger, taking

NOTHING = "no logging"
"""What the libraries are compared with, where that makes sense."""

BY_HAND = "a JSON line by hand"

__all__ = ["BY_HAND", "LOGGERS", "NOTHING", "Kept", "Log", "Logger", "taking"]

LOGGERS: dict[str, Logger] = {
    "trackside": trackside.ALONE,
    "trackside, five destinations": trackside.FIVE_DESTINATIONS,
    BY_HAND: by_hand.LINE,
    f"{BY_HAND}, flushed": by_hand.FLUSHED,
    "mlflow": mlflow.SYNCHRONOUS,
    "mlflow async": mlflow.ASYNCHRONOUS,
    "mlflow, journal+": mlflow.JOURNALED,
    "lightning": lightning.LOGGER,
    "wandb": wandb.LOGGER,
    "neptune-scale": neptune.LOGGER,
    "tensorboard": tensorboard.LOGGER,
    "aim": aim.LOGGER,
    "trackio": trackio.LOGGER,
}
