"""What logging adds to a step of a real training loop: ``python -m benchmarks.training_step``.

A perceptron on random data, torch on one thread of the CPU, wide enough for a step of about the wanted
length; each library in a process of its own, against the same loop with nothing logged. A step's time runs
to the next step's begin, so the ratio of the means is also that of the total times.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from benchmarks.loggers import LOGGERS, NOTHING
from benchmarks.quiet import QUIET
from benchmarks.rounds import Case, Rounds, options
from benchmarks.store import store_template
from benchmarks.tables import Column, table
from benchmarks.worker import measure

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from benchmarks.worker import Figures

LENGTHS = (0.35, 20.0)
"""Milliseconds of a step."""

METRICS = (10, 100)


@click.command()
@options(rounds=2, names=LOGGERS)
@click.option("--seconds", default=2.0, show_default=True, help="A measurement's steps, about.")
def main(rounds: int, only: tuple[str, ...], quick: bool, path: Path | None, seconds: float) -> None:
    """Measure, and print how long steps are and how many times those without logging."""
    names = [NOTHING, *(name for name in LOGGERS if not only or name in only)]
    combinations = list(
        itertools.product(LENGTHS[:1], METRICS[:1]) if quick else itertools.product(LENGTHS, METRICS)
    )
    played = Rounds("training_step", 1 if quick else rounds, path)
    widths = {length: _calibrate(length) for length in {length for length, _ in combinations}}
    for length, width in widths.items():
        played.console.print(f"a step of about {length} ms: {width} wide")
    with store_template() as store:

        def measure_one(case: Case) -> Figures:
            figures = [
                f"--width={widths[case['length']]}",
                f"--metrics={case['metrics']}",
                f"--seconds={seconds}",
            ]
            return measure("training_worker", case["logger"], *figures, environment={**QUIET, **store})

        played.play([_case(name, *one) for one in combinations for name in names], measure_one)
    for combination in combinations:
        played.console.print(_table(played, *combination, names))


def _case(name: str, length: float, metrics: int) -> Case:
    return {"logger": name, "length": length, "metrics": metrics}


def _calibrate(length: float) -> int:
    found = measure("training_worker", NOTHING, f"--calibrate={length}", environment=QUIET)
    if "error" in found:
        raise click.ClickException(found["error"])
    width: int = found["width"]
    return width


def _table(played: Rounds, length: float, metrics: int, names: list[str]) -> Table:
    base = played.of(_case(NOTHING, length, metrics))
    columns = [
        *(Column(figure, figure, ",.0f") for figure in ("median", "mean", "p99", "max")),
        Column("mean: times no logging's", "mean", ".2f", base),
        Column("median: times no logging's", "median", ".2f", base),
        Column("steps", "calls", ",.0f"),
    ]
    rows = {name: played.of(_case(name, length, metrics)) for name in names}
    return table(f"a step of about {length} ms with {metrics} metrics, µs", rows, columns)


if __name__ == "__main__":
    main()
