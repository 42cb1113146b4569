"""What logging adds to a step of a real training loop: ``python -m benchmarks.training_step``.

Two linear layers, torch on one thread of the CPU; each library in a process of its own. Blocks of 25 steps
(5 of the long ones) that log take turns with blocks that do not: the ratio of two neighbours, their median
over all pairs, and its bounds at 95 % by the sign test. The row without a library is the same measurement of
nothing: how far it is from 1 is how far any may be. What a library's threads and processes take from the loop
falls on both kinds of block, so the mean step is also compared with that of a process that logs nothing.

With ``--device cuda`` the steps run on a GPU, and the metrics are scalars on it, fresh out of a kernel in
both kinds of block. The loop waits for the GPU at the end of a block only. So a library that waits in each
step is seen to empty the GPU's queue.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import click

from benchmarks.loggers import LOGGERS, NOTHING
from benchmarks.rounds import Case, Rounds, options
from benchmarks.step import NO_TORCH, ON_DEVICE, has_gpu, has_torch
from benchmarks.store import store_template
from benchmarks.worker import QUIET, measure

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.worker import Figures

METRICS = (10, 100)


@click.command()
@options(rounds=2, names=LOGGERS)
@click.option("--seconds", default=8.0, show_default=True, help="A measurement's steps, about.")
@click.option("--device", default="cpu", type=click.Choice(list(ON_DEVICE)), help="Where the steps run.")
@click.option("--shape", "chosen", multiple=True, help="Only these of the device's.")
def main(  # noqa: PLR0917 - one argument an option
    rounds: int,
    only: tuple[str, ...],
    quick: bool,
    path: Path | None,
    seconds: float,
    device: str,
    chosen: tuple[str, ...],
) -> None:
    """Measure, and print how many times a step without logging one with it takes, and how sure that is."""
    if not has_torch():
        raise click.ClickException(NO_TORCH)
    if device == "cuda" and not has_gpu():
        raise click.ClickException("--device cuda needs a GPU that torch can use, and there is none here")
    names = [NOTHING, *(name for name in LOGGERS if not only or name in only)]
    shapes = [shape for shape in ON_DEVICE[device] if not chosen or shape in chosen]
    counts = METRICS[:1] if quick or device == "cuda" else METRICS
    place = {"device": device} if device != "cpu" else {}
    played = Rounds(
        "training_step", 1 if quick else rounds, path, ("ratio", "ratio_low", "ratio_high", "pairs")
    )
    budget = seconds / 4 if quick else seconds
    with store_template() as store:

        def measure_one(case: Case) -> Figures:
            figures = [f"--{name}={case[name]}" for name in ("shape", "metrics", *place)]
            figures.append(f"--seconds={budget}")
            return measure("training_worker", case["logger"], *figures, environment={**QUIET, **store})

        played.play(
            [
                {"logger": name, "shape": shape, "metrics": metrics, **place}
                for shape, metrics in itertools.product(shapes[:1] if quick else shapes, counts)
                for name in names
            ],
            measure_one,
        )
    played.show()


if __name__ == "__main__":
    main()
