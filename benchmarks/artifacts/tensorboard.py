"""``SummaryWriter`` of TensorBoard, as torch has it. Tables and files have no place in it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.artifacts.base import Calls, Library
from benchmarks.artifacts.things import FIGURE, HISTOGRAM, IMAGE, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _open() -> Iterator[Calls]:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter("tensorboard") as writer:
        yield {
            IMAGE: lambda image, step: writer.add_image("samples", image, step, dataformats="HWC"),
            FIGURE: lambda figure, step: writer.add_figure("plot", figure, step, close=False),
            HISTOGRAM: lambda values, step: writer.add_histogram("weights", values, step),
            TEXT: lambda text, step: writer.add_text("text", text, step),
        }


LIBRARY = Library(_open, frozenset({IMAGE, FIGURE, HISTOGRAM, TEXT}))
