"""One library's process: times its calls for one kind of file. Started by ``cost_of_artifacts``.

Blocks of steps with the call behind each take turns with blocks that have none, as in
:mod:`benchmarks.in_loop`. So the steps beside the calls show what the library's threads and processes take.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from benchmarks.artifacts import KINDS, LIBRARIES, Kind
from benchmarks.in_loop import Loop
from benchmarks.store import place_store
from benchmarks.timing import Spent, leave, summary
from benchmarks.worker import own_stdout

if TYPE_CHECKING:
    from benchmarks.artifacts.base import Call
    from benchmarks.worker import Figures

TURN = 5
"""Steps in a block: some of these calls take longer than many steps."""

LEAST_TURNS = 2
WARM_UP_TURNS = 1


@click.command()
@click.argument("name", type=click.Choice(list(LIBRARIES)))
@click.option("--kind", required=True, type=click.Choice(list(KINDS)))
@click.option("--seconds", default=3.0, help="To be spent in the loop, about.")
def main(name: str, kind: str, seconds: float) -> None:
    """Log one KIND with NAME and print the figures, in microseconds."""
    out = own_stdout()
    place_store()
    os.environ.setdefault("TRACKSIDE_START_TIMEOUT", "60")
    library = LIBRARIES[name]
    with library.open() as calls:
        figures = measure_in_loop(calls[kind], KINDS[kind], seconds)
        library.check()
        leave(figures, out)


def measure_in_loop(call: Call, kind: Kind, seconds: float) -> Figures:
    """Figures of ``call`` under ``loop_``, and the median step in blocks with it and without."""
    loop = Loop(kind.make())
    times: list[int] = []
    steps: tuple[list[int], list[int]] = [], []
    turns, budget = 0, Spent(seconds)
    while turns < LEAST_TURNS + WARM_UP_TURNS or (not budget.over and len(times) < kind.most):
        found, beside = loop.turn(call, TURN), loop.turn(_nothing, TURN)
        if turns >= WARM_UP_TURNS:
            times += found.calls
            steps[0].extend(found.steps)
            steps[1].extend(beside.steps)
        turns += 1
    with_call, without = (sorted(one)[len(one) // 2] / 1000 for one in steps)
    figures: Figures = {**summary(times, "loop_"), "step": without, "step_with": with_call}
    figures["step_ratio"] = with_call / without
    return figures


def _nothing(_thing: Any, _step: int) -> None:
    """The empty call."""


if __name__ == "__main__":
    main()
