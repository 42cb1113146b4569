"""What is logged: a dict of metrics for each step, and the points that the workers deliver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Metrics = dict[str, Any]

PREFIX = "train/metric_"

START_MS = 1_700_000_000_000

Point = tuple[str, float, int, int]
"""Name, value, time and step, in the order that MLflow's ``Metric`` takes them."""


def names(count: int) -> list[str]:
    """The names of the metrics."""
    return [f"{PREFIX}{i}" for i in range(count)]


def floats(count: int) -> Callable[[int], Metrics]:
    """A fresh float under each name, with all its digits, as a loss has them: text gets longer by them."""
    kept = names(count)
    return lambda step: {name: (step + index) / 7 for index, name in enumerate(kept)}


def numpy_scalars(count: int) -> Callable[[int], Metrics]:
    """A fresh ``numpy.float32`` under each name."""
    import numpy as np

    kept = names(count)
    return lambda step: {name: np.float32((step + index) / 7) for index, name in enumerate(kept)}


def tensors(count: int, device: str) -> Callable[[int], Metrics]:
    """Scalars on ``device``; on an accelerator each comes fresh out of a kernel, as a loss does."""
    import torch

    kept = names(count)
    values = [torch.tensor(i + 0.5, device=device) for i in range(count)]
    if device == "cpu":
        return lambda _step: dict(zip(kept, values, strict=True))
    return lambda step: {name: value + step for name, value in zip(kept, values, strict=True)}


VALUES: dict[str, Callable[[int], Callable[[int], Metrics]]] = {
    "floats": floats,
    "numpy": numpy_scalars,
    "torch": lambda count: tensors(count, "cpu"),
    "cuda": lambda count: tensors(count, "cuda"),
}

SPELLED = {"floats": "float", "numpy": "numpy scalar", "torch": "torch CPU scalar", "cuda": "CUDA scalar"}
"""One of each, in words."""


@dataclass(frozen=True)
class Samples:
    """``points`` points of ``keys`` keys, ``metrics`` of them a sample; more keys take turns."""

    points: int
    keys: int = 10
    metrics: int = 10

    def __len__(self) -> int:
        return self.points // self.metrics

    def __iter__(self) -> Iterator[tuple[dict[str, float], int]]:
        """What a training loop has: metrics and a step."""
        keys = names(self.keys)
        groups = [keys[start : start + self.metrics] for start in range(0, self.keys, self.metrics)]
        for number in range(len(self)):
            yield dict.fromkeys(groups[number % len(groups)], number / 3), number // len(groups)

    def batches(self, size: int) -> Iterator[list[Point]]:
        """The same points in batches, as a program that calls ``log_batch`` itself would collect them."""
        batch: list[Point] = []
        for metrics, step in self:
            batch.extend((name, value, START_MS + step, step) for name, value in metrics.items())
            if len(batch) >= size:
                yield batch[:size]
                batch = batch[size:]
        if batch:
            yield batch
