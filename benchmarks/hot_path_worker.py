"""The process of one checkout: logs a block of calls a line of stdin. Started by ``hot_path``."""

from __future__ import annotations

import gc
import os
import sys
import time
from typing import Any

import trackside
from benchmarks.worker import own_stdout


def main() -> None:
    """Read ``COUNT KIND CALLS``, log so often, answer with the CPU time of one call in microseconds."""
    out = own_stdout()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    gc.disable()  # a collection costs the block it falls into, whichever side that is
    with trackside.start("hot path", config={}):
        step = 0
        for line in sys.stdin:
            count, kind, calls = line.split()
            metrics = metrics_of(int(count), kind)
            print(time_calls(metrics, step, int(calls)), file=out, flush=True)
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


if __name__ == "__main__":
    main()
