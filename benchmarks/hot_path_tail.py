"""The rare dear log, with a shipper at work: ``python -m benchmarks.hot_path_tail --seconds 60``.

CPU time of the logging thread beside wall time, since other processes run too; quarter by quarter, so that
growth with the length of the run is seen. The store is sqlite, in an empty directory.
"""

from __future__ import annotations

import os
import tempfile
import time

import click
from rich.console import Console
from rich.table import Table

import trackside
from benchmarks.hot_path_worker import metrics_of
from benchmarks.machine import describe_machine, in_a_line

SHARES = (0.5, 0.99, 0.999, 0.9999, 1.0)


@click.command()
@click.option("--metrics", default=100, show_default=True, help="Floats a sample.")
@click.option("--every", default=0.0005, show_default=True, help="Seconds from one sample to the next.")
@click.option("--seconds", default=60.0, show_default=True, help="How long.")
def main(metrics: int, every: float, seconds: float) -> None:
    """Log at a steady pace, and print percentiles."""
    with tempfile.TemporaryDirectory(prefix="trackside-tail-", ignore_cleanup_errors=True) as directory:
        os.chdir(directory)
        with trackside.start("tail", tracking_uri="sqlite:///mlflow.db", config={}):
            times = log_at_a_pace(metrics, every, seconds)
            left = len(
                [name for _, _, files in os.walk(directory) for name in files if name.endswith(".seg")]
            )
    console = Console(width=110)
    console.print(in_a_line(describe_machine()))
    columns = ("µs", "samples", "median", *(f"{share:.2%}" for share in SHARES[1:-1]), "max")
    table = Table(
        *columns, title=f"{metrics} floats each {every * 1e3:g} ms; {left} segments not yet deleted"
    )
    quarter = len(times) // 4
    for number in range(4):
        part = times[number * quarter : (number + 1) * quarter]
        table.add_row(f"CPU, quarter {number + 1}", *percentiles([cpu for cpu, _ in part]))
    table.add_row("CPU", *percentiles([cpu for cpu, _ in times]))
    table.add_row("wall", *percentiles([wall for _, wall in times]))
    console.print(table)


def log_at_a_pace(count: int, every: float, seconds: float) -> list[tuple[int, int]]:
    """Nanoseconds each log took: of the thread's CPU time, and of the wall's."""
    metrics = metrics_of(count, "floats")
    times: list[tuple[int, int]] = []
    cpu, wall = time.thread_time_ns, time.perf_counter_ns
    due = time.monotonic()
    end = due + seconds
    while due < end:
        due = max(due + every, time.monotonic() - every)  # what was missed is not caught up with
        time.sleep(max(due - time.monotonic(), 0))
        before = wall()
        cpu_before = cpu()
        trackside.log(metrics, len(times))
        cpu_after = cpu()
        times.append((cpu_after - cpu_before, wall() - before))
    return times


def percentiles(nanoseconds: list[int]) -> list[str]:
    """How many, and :data:`SHARES` of them, in microseconds."""
    ordered = sorted(nanoseconds)
    places = (min(int(len(ordered) * share), len(ordered) - 1) for share in SHARES)
    return [f"{len(ordered):,}", *(f"{ordered[place] / 1000:.1f}" for place in places)]


if __name__ == "__main__":
    main()
