"""The points that the workers deliver: the same, whichever way they go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

START_MS = 1_700_000_000_000

Point = tuple[str, float, int, int]
"""Name, value, time and step, in the order that MLflow's ``Metric`` takes them."""


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
        names = [f"train/metric_{number}" for number in range(self.keys)]
        groups = [names[start : start + self.metrics] for start in range(0, self.keys, self.metrics)]
        for number in range(len(self)):
            yield dict.fromkeys(groups[number % len(groups)], number / 3), number // len(groups)

    def batches(self, size: int) -> Iterator[list[Point]]:
        """The same points in batches, as somebody who calls ``log_batch`` himself would collect them."""
        batch: list[Point] = []
        for metrics, step in self:
            batch.extend((name, value, START_MS + step, step) for name, value in metrics.items())
            if len(batch) >= size:
                yield batch[:size]
                batch = batch[size:]
        if batch:
            yield batch
