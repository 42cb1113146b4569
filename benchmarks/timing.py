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

TAIL = 1000
"""Fewer calls than that have no 99.9th percentile."""


def summary(times: Sequence[int], prefix: str = "") -> Figures:
    """How many there were, and their figures, each under ``prefix``; ``times`` are in nanoseconds."""
    ordered = sorted(times)

    def at(share: float) -> float:
        return ordered[min(int(len(ordered) * share), len(ordered) - 1)] / 1000

    figures = {
        "calls": len(ordered),
        "median": at(0.5),
        "mean": statistics.fmean(ordered) / 1000,
        "p99": at(0.99),
        **({"p99.9": at(0.999)} if len(ordered) >= TAIL else {}),
        "max": ordered[-1] / 1000,
    }
    return {prefix + name: figure for name, figure in figures.items()}


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


class Spent:
    """What this thread has spent of so many seconds of CPU time, or of ten times as many by the clock."""

    def __init__(self, seconds: float) -> None:
        self._ends = time.thread_time() + seconds, time.monotonic() + 10 * seconds

    @property
    def over(self) -> bool:
        """Whether nothing is left."""
        return time.thread_time() > self._ends[0] or time.monotonic() > self._ends[1]


def leave(figures: Figures, out: TextIO) -> None:
    """Say the figures and end at once, with the library's processes: what it still does is not asked."""
    say(figures, out)
    for process in psutil.Process().children(recursive=True):
        process.kill()
    os._exit(0)
