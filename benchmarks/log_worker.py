"""One library's process: times every call and prints a line of JSON. Started by ``cost_of_log``."""

from __future__ import annotations

import json
import os
import statistics
import sys
import threading
import time
from typing import TextIO

import click

from benchmarks.loggers import CALLS, LOGGERS, Log

WARM_UP = 50


@click.command()
@click.argument("name", type=click.Choice(sorted(LOGGERS)))
@click.option("--metrics", default=10)
@click.option("--busy", is_flag=True)
def main(name: str, metrics: int, busy: bool) -> None:
    """Log with NAME and print the figures, in microseconds."""
    out = _own_stdout()
    calls = CALLS[name] // 10 if busy else CALLS[name]
    stop = threading.Event()
    with LOGGERS[name]() as log:
        if busy:
            threading.Thread(target=_spin, args=(stop,), daemon=True).start()
        times = _time_calls(log, metrics, max(calls, WARM_UP))
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


def _time_calls(log: Log, count: int, calls: int) -> list[int]:
    names = [f"train/metric_{i}" for i in range(count)]
    clock, times = time.perf_counter_ns, []
    for step in range(WARM_UP + calls):
        metrics = dict.fromkeys(names, step + 0.5)
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
