"""What logging adds to a step of a real training loop: ``python -m benchmarks.training_step``.

Two linear layers, torch on one thread of the CPU; each library in a process of its own. Blocks of 25 steps
(5 of the long ones) that log take turns with blocks that do not: the ratio of two neighbours, their median
over all pairs, and its bounds at 95 % by the sign test. The row without a library is the same measurement of
nothing: how far it is from 1 is how far any may be. What a library's threads and processes take from the loop
falls on both kinds of block, so the mean step is also compared with that of a process that logs nothing.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from benchmarks.loggers import LOGGERS, NOTHING
from benchmarks.rounds import Case, Rounds, options
from benchmarks.step import NO_TORCH, SHAPES, has_torch
from benchmarks.store import store_template
from benchmarks.worker import QUIET, measure

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.worker import Figures

METRICS = (10, 100)


@click.command()
@options(rounds=2, names=LOGGERS)
@click.option("--seconds", default=8.0, show_default=True, help="A measurement's steps, about.")
def main(rounds: int, only: tuple[str, ...], quick: bool, path: Path | None, seconds: float) -> None:
    """Measure, and print how many times a step without logging one with it takes, and how sure that is."""
    if not has_torch():
        raise click.ClickException(NO_TORCH)
    names = [NOTHING, *(name for name in LOGGERS if not only or name in only)]
    shapes, counts = (["small"], METRICS[:1]) if quick else (list(SHAPES), METRICS)
    played = Rounds(
        "training_step", 1 if quick else rounds, path, ("ratio", "ratio_low", "ratio_high", "pairs")
    )
    budget = seconds / 4 if quick else seconds
    with store_template() as store:

        def measure_one(case: Case) -> Figures:
            figures = [f"--shape={case['shape']}", f"--metrics={case['metrics']}", f"--seconds={budget}"]
            return measure("training_worker", case["logger"], *figures, environment={**QUIET, **store})

        played.play(
            [
                {"logger": name, "shape": shape, "metrics": metrics}
                for shape, metrics in itertools.product(shapes, counts)
                for name in names
            ],
            measure_one,
        )
    played.show()


if __name__ == "__main__":
    main()
