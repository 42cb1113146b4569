"""A training loop with one library, or with none: times its steps. Started by ``training_step``.

Blocks of steps that log take turns with blocks that do not. A pair of neighbouring blocks meets the same
machine, and the median of many pairs' ratios has bounds that need no quiet one (:func:`spread.interval`).
On a GPU a block is timed as a whole, because its steps overlap.
"""

from __future__ import annotations

import itertools
import os
import statistics
import time
from contextlib import nullcontext
from typing import TYPE_CHECKING

import click

from benchmarks.loggers import LOGGERS, NOTHING, Log, taking
from benchmarks.samples import VALUES, names
from benchmarks.spread import interval
from benchmarks.step import BLOCK, LARGE, ON_DEVICE, SHAPES, Shape, training_step
from benchmarks.store import place_store
from benchmarks.timing import Spent, leave, summary
from benchmarks.worker import own_stdout

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from benchmarks.worker import Figures

PAIRS = 1_000
LEAST_PAIRS = 8
"""Fewer than six have no bounds."""

BLOCK_ON_GPU = 4 * BLOCK
"""Steps that are timed together: filling and emptying the GPU's queue must not weigh."""


@click.command()
@click.argument("name", type=click.Choice([NOTHING, *LOGGERS]))
@click.option("--shape", default="small", type=click.Choice(list(SHAPES)))
@click.option("--metrics", default=10)
@click.option("--device", default="cpu", type=click.Choice(list(ON_DEVICE)))
@click.option("--seconds", default=8.0, help="To be spent on steps, about.")
def main(name: str, shape: str, metrics: int, device: str, seconds: float) -> None:
    """Train, logging with NAME in every second block, and print the figures, in microseconds."""
    out = own_stdout()
    place_store()
    os.environ.setdefault("TRACKSIDE_START_TIMEOUT", "60")  # all of it is under way before the first step
    with _open(name) as log:
        if device == "cuda":
            numbers = LOGGERS[name].numbers if name in LOGGERS else ("cuda",)
            on_gpu = TrainingOnGpu(SHAPES[shape], taking("cuda", log, numbers), metrics)
            leave(_measure(on_gpu, seconds, BLOCK_ON_GPU), out)
        else:
            leave(_measure(Training(SHAPES[shape], log, metrics), seconds, _block(SHAPES[shape])), out)


def _block(shape: Shape) -> int:
    """Steps in a block: fewer of long ones, for the sake of more pairs."""
    return BLOCK if shape != LARGE else BLOCK // 5


def _open(name: str) -> AbstractContextManager[Log]:
    return nullcontext(_nothing) if name == NOTHING else LOGGERS[name].open()


def _nothing(_metrics: dict[str, float], _step: int) -> None:
    """Log nothing: what the loop does in every second block."""


def _measure(training: Training | TrainingOnGpu, seconds: float, block: int) -> Figures:
    training.block(block, logging=True)
    training.block(block, logging=False)
    with_log: list[int] = []
    ratios: list[float] = []
    budget = Spent(seconds)
    while len(ratios) < LEAST_PAIRS or (not budget.over and len(ratios) < PAIRS):
        first = len(ratios) % 2 == 0  # what drifts over a pair is on either side as often
        pair = {logging: training.block(block, logging=logging) for logging in (first, not first)}
        ratios.append(sum(pair[True]) / sum(pair[False]))
        with_log += pair[True]
    low, high = interval(ratios)
    bounds = {"ratio": statistics.median(ratios), "ratio_low": low, "ratio_high": high, "pairs": len(ratios)}
    return {**summary(with_log), **bounds, "block": block}


class Training:
    """A loop that logs its loss under many names, or makes the same dict and logs nothing."""

    def __init__(self, shape: Shape, log: Log, metrics: int) -> None:
        self._train, self._log, self._names, self._number = training_step(shape), log, names(metrics), 0

    def block(self, steps: int, *, logging: bool) -> list[int]:
        """Train so many steps; how long each took, from its begin to the next one's."""
        log, train, kept, clock = (
            self._log if logging else _nothing,
            self._train,
            self._names,
            time.perf_counter_ns,
        )
        moments = [clock()]
        for number in range(self._number, self._number + steps):
            log(dict.fromkeys(kept, train().item()), number)
            moments.append(clock())
        self._number += steps
        return [after - before for before, after in itertools.pairwise(moments)]


class TrainingOnGpu:
    """A loop that logs scalars on the GPU, fresh out of a kernel, or makes them and logs nothing."""

    def __init__(self, shape: Shape, log: Log, metrics: int) -> None:
        self._train, self._log, self._number = training_step(shape, "cuda"), log, 0
        self._make = VALUES["cuda"](metrics)

    def block(self, steps: int, *, logging: bool) -> list[int]:
        """Train so many steps, and wait for the GPU. The mean time of a step, as the only one of a list."""
        import torch

        log, make, train = self._log if logging else _nothing, self._make, self._train
        before = time.perf_counter_ns()
        for number in range(self._number, self._number + steps):
            train()
            log(make(number), number)
        torch.cuda.synchronize()
        self._number += steps
        return [(time.perf_counter_ns() - before) // steps]


if __name__ == "__main__":
    main()
