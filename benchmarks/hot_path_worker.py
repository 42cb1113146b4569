"""The process of one checkout: logs a block of calls a line of stdin. Started by ``hot_path``."""

from __future__ import annotations

import gc
import os
import statistics
import sys
import time
from typing import TYPE_CHECKING, Any

import trackside
from benchmarks.step import SMALL, training_step
from benchmarks.worker import own_stdout

if TYPE_CHECKING:
    from collections.abc import Callable


def main() -> None:
    """Read ``COUNT KIND WHERE CALLS``, log so often, answer with what one call took in microseconds.

    ``tight``: the mean CPU time of calls without a pause. ``loop``: the median time of calls behind steps.
    """
    out = own_stdout()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    gc.disable()  # a collection costs the block it falls into, whichever side that is
    train: Callable[[], Any] | None = None
    with trackside.start("hot path", config={}):
        step = 0
        for line in sys.stdin:
            count, kind, where, calls = line.split()
            metrics = metrics_of(int(count), kind)
            if where == "loop":
                train = train or training_step(SMALL)
                found = time_behind_steps(train, metrics, step, int(calls))
            else:
                found = time_calls(metrics, step, int(calls))
            print(found, file=out, flush=True)
            step += int(calls)


def metrics_of(count: int, kind: str) -> dict[str, Any]:
    """A sample of ``count`` values: ``floats``, ``torch`` scalars, or ``mixed``, half and half."""
    values: list[Any] = [index + 0.5 for index in range(count)]
    if kind != "floats":
        import torch

        every = 1 if kind == "torch" else 2
        values[::every] = [torch.tensor(value) for value in values[::every]]
    return {f"train/metric_{index}": value for index, value in enumerate(values)}


def time_calls(metrics: dict[str, Any], step: int, calls: int) -> float:
    """The CPU time of one of ``calls``, in microseconds; the loop itself is in it, a call in fifty."""
    log, clock, steps = trackside.log, time.thread_time_ns, range(step, step + calls)
    before = clock()
    for number in steps:
        log(metrics, number)
    return (clock() - before) / calls / 1000


def time_behind_steps(train: Callable[[], Any], metrics: dict[str, Any], step: int, calls: int) -> float:
    """The median time of ``calls``, each behind a training step, in microseconds.

    Not CPU time, whose clock enters the kernel: behind a step that alone would be a part of what is measured.
    The median leaves out the few calls in which something else had the processor.
    """
    log, clock = trackside.log, time.perf_counter_ns
    times = []
    for number in range(step, step + calls):
        train()
        fresh = dict(metrics)
        before = clock()
        log(fresh, number)
        times.append(clock() - before)
    return statistics.median(times) / 1000


if __name__ == "__main__":
    main()
