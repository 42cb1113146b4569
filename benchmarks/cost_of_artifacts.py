"""What a file, image or table costs the training thread: ``python -m benchmarks.cost_of_artifacts``.

Each call comes behind a real torch step. Each library logs each kind in a process of its own, into a store on
this machine, and the libraries take turns in rounds. A library that has no call for a kind is left out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from benchmarks.artifacts import KINDS, LIBRARIES
from benchmarks.rounds import Case, Rounds, options
from benchmarks.step import NO_TORCH, SMALL, has_torch
from benchmarks.store import store_template
from benchmarks.worker import QUIET, measure

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.worker import Figures

SAID = ("loop_median", "loop_p99", "loop_calls", "step_ratio")


@click.command()
@options(rounds=2, names=LIBRARIES)
@click.option("--seconds", default=3.0, show_default=True, help="A measurement's time in the loop, about.")
@click.option("--kind", "kinds", multiple=True, type=click.Choice(list(KINDS)), help="Only these.")
def main(  # noqa: PLR0917 - one argument an option
    rounds: int,
    only: tuple[str, ...],
    quick: bool,
    path: Path | None,
    seconds: float,
    kinds: tuple[str, ...],
) -> None:
    """Measure, and print what a call costs in the loop, and what it is of trackside's."""
    if not has_torch():
        raise click.ClickException(NO_TORCH)
    names = [name for name in LIBRARIES if not only or name in only]
    cases: list[Case] = [
        {"logger": name, "kind": kind}
        for kind in kinds or KINDS
        for name in names
        if kind in LIBRARIES[name].kinds
    ]
    played = Rounds("cost_of_artifacts", 1 if quick else rounds, path, SAID)
    played.console.print(f"The training step: {SMALL}, torch on one thread.")
    with store_template() as store:

        def measure_one(case: Case) -> Figures:
            spent = f"--seconds={seconds / 3 if quick else seconds}"
            arguments = (case["logger"], f"--kind={case['kind']}", spent)
            # Without it, wandb would copy all files into the home directory.
            places = {"WANDB_DATA_DIR": ".", "WANDB_CACHE_DIR": "."}
            return measure("artifact_worker", *arguments, environment={**QUIET, **places, **store})

        played.play(cases, measure_one)
    played.show()


if __name__ == "__main__":
    main()
