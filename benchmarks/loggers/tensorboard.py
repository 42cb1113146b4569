"""``SummaryWriter.add_scalar`` of TensorBoard, as torch has it: a call a metric."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.loggers.base import Kept, Log, Logger

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = "tensorboard"


@contextmanager
def _open() -> Iterator[Log]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(DIRECTORY) as writer:

        def log(metrics: dict[str, Any], step: int) -> None:
            for name, value in metrics.items():
                writer.add_scalar(name, value, step)

        yield log


def kept() -> Kept:
    """All scalars, by TensorBoard's own reader."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(DIRECTORY, size_guidance={"scalars": 0})
    events.Reload()
    names = events.Tags()["scalars"]
    return Kept([(name, event.step) for name in names for event in events.Scalars(name)])


LOGGER = Logger(
    "torch.utils.tensorboard",
    _open,
    kept,
    "a queue of 10 events, a thread of the training process writes the file every 120 s; imports torch",
)
