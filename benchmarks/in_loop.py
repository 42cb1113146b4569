"""What a call costs behind a training step, beside a JSON line and an empty call in the same loop.

The three take turns of a block of steps each, in one process: whatever the machine does in that hour, it does
to all of them, so their ratio can be trusted where their microseconds cannot. Each call is timed by itself.
An empty call shows what the step and the machine do to any call: its 99.9th percentile is their noise.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.step import BLOCK, ON_GPU, SMALL, training_step
from benchmarks.timing import Spent, summary

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.loggers import Log
    from benchmarks.samples import Metrics
    from benchmarks.worker import Figures

MOST = 5_000
"""Calls of each."""

LEAST_TURNS = 4
WARM_UP_TURNS = 2


def measure_in_loop(
    log: Log, line: Log, make: Callable[[int], Metrics], values: str, seconds: float
) -> Figures:
    """Figures of ``log`` under ``loop_``, of ``line`` under ``line_``, of nothing under ``empty_``.

    ``seconds`` are of this thread's CPU time: on a busy machine the loop takes longer, and is no shorter.
    """
    loop = Loop(make, "cuda" if values == "cuda" else "cpu")
    calls: list[tuple[Log, list[int]]] = [(log, []), (line, []), (_nothing, [])]
    steps: list[int] = []
    turns, budget = 0, Spent(seconds)
    while turns < LEAST_TURNS or (not budget.over and len(calls[0][1]) < MOST):
        for call, times in calls[turns % 3 :] + calls[: turns % 3]:  # each comes behind each of the others
            found = loop.turn(call)
            if turns >= WARM_UP_TURNS:
                times.extend(found.calls)
                steps += found.steps if call is _nothing else []
        turns += 1
    figures: Figures = {}
    for prefix, (_, times) in zip(("loop_", "line_", "empty_"), calls, strict=True):
        figures |= summary(times, prefix)
    figures["step"] = sorted(steps)[len(steps) // 2] / 1000
    figures["by_line"] = figures["loop_median"] / figures["line_median"]
    if "loop_p99.9" in figures:
        figures["tail"] = figures["loop_p99.9"] / figures["loop_median"]
        figures["empty_tail"] = figures["empty_p99.9"] / figures["loop_median"]
    return figures


class Turn(NamedTuple):
    """Nanoseconds of the calls of a block, and of the steps before them."""

    calls: list[int]
    steps: list[int]


class Loop:
    """A training that logs what ``make`` makes, on the CPU or on a GPU.

    A GPU still works on a step while the call behind it runs: a library that waits for it is seen to wait.
    """

    def __init__(self, make: Callable[[int], Metrics], device: str = "cpu") -> None:
        self._make, self._number = make, 0
        self._train = training_step(SMALL if device == "cpu" else ON_GPU, device)
        self._await = _cuda_synchronize() if device == "cuda" else _nothing_to_await

    def turn(self, call: Log, steps: int = BLOCK) -> Turn:
        """Train for a block of steps, with ``call`` behind each."""
        clock, make, train, waited = time.perf_counter_ns, self._make, self._train, self._await
        turn = Turn([], [])
        for number in range(self._number, self._number + steps):
            begun = clock()
            train()
            metrics = make(number)
            before = clock()
            call(metrics, number)
            after = clock()
            waited()
            turn.calls.append(after - before)
            turn.steps.append(before - begun)
        self._number += steps
        return turn


def _nothing(_metrics: Metrics, _step: int) -> None:
    """The empty call."""


def _nothing_to_await() -> None:
    """The CPU has done what it was asked."""


def _cuda_synchronize() -> Callable[[], None]:
    import torch

    return torch.cuda.synchronize
