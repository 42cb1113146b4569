"""What one call to log some metrics costs the training thread: ``python -m benchmarks.cost_of_log``.

Every library logs in a process of its own, call after call without a pause; each call is timed by itself.
What counts is the ratio. ``busy`` is beside a Python thread that never waits, as a data loader's or a
progress bar's may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from benchmarks.loggers import LOGGERS
from benchmarks.quiet import QUIET
from benchmarks.rounds import Case, Rounds, options
from benchmarks.samples import VALUES
from benchmarks.store import store_template
from benchmarks.tables import Column, table
from benchmarks.timing import COLUMNS
from benchmarks.worker import measure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rich.table import Table

    from benchmarks.worker import Figures


def _combination(metrics: int, values: str = "floats", *, busy: bool = False, threads: int = 1) -> Case:
    return {"metrics": metrics, "values": values, "busy": busy, "threads": threads}


QUICK = [_combination(10), _combination(10, busy=True)]
FULL = [
    *(_combination(metrics) for metrics in (1, 10, 100, 1000)),
    *(_combination(metrics, "torch") for metrics in (10, 100)),
    *(_combination(metrics, busy=True) for metrics in (10, 100)),
    *(_combination(10, threads=threads) for threads in (2, 4, 8)),
]


@click.command()
@options(rounds=2, names=LOGGERS)
@click.option("--seconds", default=2.0, show_default=True, help="A measurement's calls, about.")
@click.option("--metrics", multiple=True, type=int, help="Only with this many metrics.")
@click.option("--values", type=click.Choice(list(VALUES)), help="Only these; cuda needs a GPU.")
@click.option("--threads", type=int, help="Only from so many threads at once.")
def main(  # noqa: PLR0917 - one argument an option
    rounds: int,
    only: tuple[str, ...],
    quick: bool,
    path: Path | None,
    seconds: float,
    metrics: tuple[int, ...],
    values: str | None,
    threads: int | None,
) -> None:
    """Measure, and print the cost of a call and how many times trackside's it is."""
    names = [name for name in LOGGERS if not only or name in only]
    combinations = QUICK if quick else FULL
    if metrics or values or threads:
        combinations = [
            _combination(count, values or "floats", busy=busy, threads=threads or 1)
            for count in metrics or (10,)
            for busy in (False, True)
        ]
    played = Rounds("cost_of_log", 1 if quick else rounds, path)
    with store_template() as store:

        def measure_one(case: Case) -> Figures:
            return measure(
                "log_worker",
                *_arguments(case, seconds / 4 if quick else seconds),
                environment={**QUIET, **store},
            )

        played.play([case for one in combinations for case in _cases(one, names)], measure_one)
    for combination in combinations:
        played.console.print(_table(played, combination, names))


def _cases(combination: Case, names: list[str]) -> Iterator[Case]:
    for name in names:
        if combination["threads"] == 1 or LOGGERS[name].fast:
            yield {"logger": name, **combination}


def _arguments(case: Case, seconds: float) -> list[object]:
    numbers = [f"--metrics={case['metrics']}", f"--values={case['values']}", f"--threads={case['threads']}"]
    return [case["logger"], *numbers, f"--seconds={seconds}", *(["--busy"] if case["busy"] else [])]


def _table(played: Rounds, combination: Case, names: list[str]) -> Table:
    ours = played.of({"logger": "trackside", **combination})
    columns = [
        *(Column(figure, figure) for figure in COLUMNS),
        Column("median: times trackside's", "median", base=ours),
        Column("mean: times trackside's", "mean", base=ours),
        Column("calls", "calls", ",.0f"),
    ]
    title = f"one call with {combination['metrics']} {combination['values']}, µs"
    title += f", from each of {combination['threads']} threads" if combination["threads"] > 1 else ""
    title += ", beside a busy Python thread" if combination["busy"] else ""
    return table(title, {case["logger"]: played.of(case) for case in _cases(combination, names)}, columns)


if __name__ == "__main__":
    main()
