"""Many durations in a few figures, in microseconds; and the end of a process that measured them."""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple, TextIO

import psutil

from benchmarks.worker import Figures, say

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

COLUMNS = ("median", "mean", "p99", "p99.9", "max")


def summary(times: Sequence[int]) -> Figures:
    """How many there were, and the figures of :data:`COLUMNS`; ``times`` are in nanoseconds."""
    ordered = sorted(times)

    def at(share: float) -> float:
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] / 1000

    return {
        "calls": len(ordered),
        "median": at(0.5),
        "mean": statistics.fmean(ordered) / 1000,
        "p99": at(0.99),
        "p99.9": at(0.999),
        "max": ordered[-1] / 1000,
    }


class Budget(NamedTuple):
    """How much is measured: enough for the tail of what is fast, a few seconds of what is slow."""

    seconds: float
    most: int
    least: int = 30
    patience: float = 5
    """For ``least`` repetitions it may take this many times ``seconds``."""

    def repeat(self, once: Callable[[], int]) -> list[int]:
        """What ``once`` returned each time, as long as the budget allows."""
        times: list[int] = []
        begun = time.monotonic()
        for _ in range(self.most):
            times.append(once())
            spent = (time.monotonic() - begun) / self.seconds
            if spent > self.patience or (spent > 1 and len(times) >= self.least):
                break
        return times


def leave(figures: Figures, out: TextIO) -> None:
    """Say the figures and end at once, with the library's processes: what it still does is not asked."""
    say(figures, out)
    for process in psutil.Process().children(recursive=True):
        process.kill()
    os._exit(0)
