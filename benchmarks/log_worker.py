"""One library's process: times its calls and prints a line of JSON. Started by ``cost_of_log``.

First behind training steps (:mod:`benchmarks.in_loop`), then in a tight loop, which fills whatever queue the
library has.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.loggers import LOGGERS, Log, taking
from benchmarks.loggers.by_hand import open_lines
from benchmarks.samples import VALUES
from benchmarks.store import place_store
from benchmarks.timing import Budget, leave, summary
from benchmarks.worker import own_stdout

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.samples import Metrics
    from benchmarks.worker import Figures

CALLS = 5_000
WARM_UP = 50


@click.command()
@click.argument("name", type=click.Choice(list(LOGGERS)))
@click.option("--metrics", default=10)
@click.option("--values", default="floats", type=click.Choice(list(VALUES)))
@click.option("--threads", default=1)
@click.option("--seconds", default=2.0, help="To be spent on calls in a tight loop, about.")
@click.option("--loop-seconds", default=0.0, help="To be spent on calls behind training steps; 0: none.")
@click.option("--busy", is_flag=True, help="Beside a Python thread that never waits.")
def main(  # noqa: PLR0917 - one argument an option
    name: str, metrics: int, values: str, threads: int, seconds: float, loop_seconds: float, busy: bool
) -> None:
    """Log with NAME and print the figures, in microseconds."""
    out = own_stdout()
    place_store()
    os.environ.setdefault("TRACKSIDE_START_TIMEOUT", "60")  # all of it is under way before the first call
    logger = LOGGERS[name]
    make = VALUES[values](metrics)
    with logger.open() as opened:
        log = taking(values, opened, logger.numbers)
        in_loop = _in_loop(log, make, values, loop_seconds) if loop_seconds else {}
        once = _timed(log, make)
        Budget(seconds / 5, WARM_UP, least=3).repeat(once)
        if busy:
            threading.Thread(target=_spin, daemon=True).start()
        times = _in_threads(threads, once, Budget(seconds, CALLS // threads))
        leave({**in_loop, **summary(times, "tight_")}, out)


def _in_loop(log: Log, make: Callable[[int], Metrics], values: str, seconds: float) -> Figures:
    from benchmarks.in_loop import measure_in_loop

    with open_lines(Path("beside.jsonl")) as line:
        return measure_in_loop(log, taking(values, line, ("floats",)), make, values, seconds)


def _timed(log: Log, make: Callable[[int], Metrics]) -> Callable[[], int]:
    """A call at the next step, whichever thread makes it: some libraries drop steps that go back."""
    clock, steps = time.perf_counter_ns, itertools.count(10**6)  # behind those of the training loop

    def once() -> int:
        step = next(steps)
        metrics = make(step)
        before = clock()
        log(metrics, step)
        return clock() - before

    return once


def _spin() -> None:
    while True:
        sum(range(100))


def _in_threads(count: int, once: Callable[[], int], budget: Budget) -> list[int]:
    """The times of all calls, from ``count`` threads that log at once."""
    if count == 1:
        return budget.repeat(once)
    with ThreadPoolExecutor(count) as pool:
        running = [pool.submit(budget.repeat, once) for _ in range(count)]
        return [one for each in running for one in each.result()]


if __name__ == "__main__":
    main()
