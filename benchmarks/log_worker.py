"""One library's process: times every call and prints a line of JSON. Started by ``cost_of_log``."""

from __future__ import annotations

import itertools
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import click

from benchmarks.loggers import LOGGERS, Log
from benchmarks.samples import VALUES
from benchmarks.store import place_store
from benchmarks.timing import Budget, leave, summary
from benchmarks.worker import own_stdout

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.samples import Metrics

CALLS = 5_000
WARM_UP = 50


@click.command()
@click.argument("name", type=click.Choice(list(LOGGERS)))
@click.option("--metrics", default=10)
@click.option("--values", default="floats", type=click.Choice(list(VALUES)))
@click.option("--threads", default=1)
@click.option("--seconds", default=2.0, help="To be spent on calls, about.")
@click.option("--busy", is_flag=True, help="Beside a Python thread that never waits.")
def main(  # noqa: PLR0917 - one argument an option
    name: str, metrics: int, values: str, threads: int, seconds: float, busy: bool
) -> None:
    """Log with NAME and print the figures, in microseconds."""
    out = own_stdout()
    place_store()
    os.environ.setdefault("TRACKSIDE_START_TIMEOUT", "60")  # all of it is under way before the first call
    logger = LOGGERS[name]
    with logger.open() as log:
        once = _timed(log if values == "floats" or logger.tensors else _by_item(log), VALUES[values](metrics))
        Budget(seconds / 5, WARM_UP, least=3).repeat(once)
        if busy:
            threading.Thread(target=_spin, daemon=True).start()
        times = _in_threads(threads, once, Budget(seconds, CALLS // threads))
        leave(summary(times), out)


def _timed(log: Log, make: Callable[[int], Metrics]) -> Callable[[], int]:
    """A call at the next step, whichever thread makes it: some libraries drop steps that go back."""
    clock, steps = time.perf_counter_ns, itertools.count()

    def once() -> int:
        step = next(steps)
        metrics = make(step)
        before = clock()
        log(metrics, step)
        return clock() - before

    return once


def _by_item(log: Log) -> Log:
    """For a library that does not take tensors: what its user writes."""
    return lambda metrics, step: log({name: value.item() for name, value in metrics.items()}, step)


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
