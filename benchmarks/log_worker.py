"""One library's process: times every call and prints a line of JSON. Started by ``cost_of_log``."""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, TextIO

import click

from benchmarks.loggers import CALLS, LOGGERS, Log

if TYPE_CHECKING:
    from collections.abc import Callable

WARM_UP = 50

Metrics = dict[str, Any]


def _names(count: int) -> list[str]:
    return [f"train/metric_{i}" for i in range(count)]


def _floats(count: int) -> Callable[[int], Metrics]:
    names = _names(count)
    return lambda step: dict.fromkeys(names, step + 0.5)


def _tensors(device: str) -> Callable[[int], Callable[[int], Metrics]]:
    """Scalars on ``device``; on an accelerator each comes fresh out of a kernel, as a loss does."""

    def prepare(count: int) -> Callable[[int], Metrics]:
        import torch

        names, values = _names(count), [torch.tensor(i + 0.5, device=device) for i in range(count)]
        if device == "cpu":
            return lambda _step: dict(zip(names, values, strict=True))
        return lambda step: {name: value + step for name, value in zip(names, values, strict=True)}

    return prepare


VALUES = {"floats": _floats, "torch": _tensors("cpu"), "cuda": _tensors("cuda")}


@click.command()
@click.argument("name", type=click.Choice(sorted(LOGGERS)))
@click.option("--metrics", default=10)
@click.option("--values", default="floats", type=click.Choice(list(VALUES)))
@click.option("--threads", default=1)
@click.option("--busy", is_flag=True)
def main(name: str, metrics: int, values: str, threads: int, busy: bool) -> None:
    """Log with NAME and print the figures, in microseconds."""
    out = _own_stdout()
    calls = CALLS[name] // 10 if busy else CALLS[name]
    stop = threading.Event()
    with LOGGERS[name]() as log:
        if busy:
            threading.Thread(target=_spin, args=(stop,), daemon=True).start()
        make = VALUES[values](metrics)
        times = _time_threads(threads, lambda: _time_calls(log, make, max(calls // threads, WARM_UP)))
        stop.set()
    print(json.dumps(_figures(times)), file=out, flush=True)
    os._exit(0)  # whatever a library still wants to do at exit is not asked here


def _own_stdout() -> TextIO:
    """Keep our stdout for the result: libraries print there too."""
    kept = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return kept


def _spin(stop: threading.Event) -> None:
    while not stop.is_set():
        sum(range(100))


def _time_threads(count: int, work: Callable[[], list[int]]) -> list[int]:
    """The times of all calls, from ``count`` threads that log at once."""
    if count == 1:
        return work()
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(work) for _ in range(count)]
        return [one for each in running for one in each.result()]


def _time_calls(log: Log, make: Callable[[int], Metrics], calls: int) -> list[int]:
    clock, times = time.perf_counter_ns, []
    for step in range(WARM_UP + calls):
        metrics = make(step)
        before = clock()
        log(metrics, step)
        times.append(clock() - before)
    return times[WARM_UP:]


def _figures(times: list[int]) -> dict[str, float]:
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


if __name__ == "__main__":
    main()
