"""What one call to log some metrics costs the training thread: ``python -m benchmarks.cost_of_log``.

In the loop: each call comes behind a real torch step, whose work has emptied the processor's caches. That is
the call that users have, and the headline. In a tight loop: call after call without a pause, with everything
at hand. Each library logs in a process of its own, in turns of 25 steps with a JSON line written by hand, and
the libraries take turns in rounds. What counts is the ratio. ``busy`` is beside a Python thread that never
waits, as a data loader's or a progress bar's may.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from benchmarks.loggers import BY_HAND, LOGGERS
from benchmarks.rounds import Case, Rounds, options
from benchmarks.samples import VALUES
from benchmarks.step import NO_TORCH, ON_GPU, SMALL, has_gpu, has_torch
from benchmarks.store import store_template
from benchmarks.worker import QUIET, measure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from benchmarks.worker import Figures


def _combination(metrics: int, values: str = "floats", *, busy: bool = False, threads: int = 1) -> Case:
    return {"metrics": metrics, "values": values, "busy": busy, "threads": threads}


QUICK = [_combination(10), _combination(100), _combination(10, "torch")]
OURS = ("trackside", BY_HAND)
"""Of which a quick run measures more than the first combination: what the targets are about."""

SAID = ("loop_median", "by_line", "loop_calls", "tight_median")
FULL = [
    *(_combination(metrics) for metrics in (10, 100, 1, 1000)),
    *(_combination(10, values) for values in ("torch", "numpy")),
    _combination(100, "torch"),
    *(_combination(metrics, busy=True) for metrics in (10, 100)),
    *(_combination(10, threads=threads) for threads in (2, 4, 8)),
]


@click.command()
@options(rounds=2, names=LOGGERS)
@click.option(
    "--seconds", default=2.0, show_default=True, help="A measurement's calls in a tight loop, about."
)
@click.option("--loop-seconds", default=6.0, show_default=True, help="And behind steps; 0: none.")
@click.option("--metrics", multiple=True, type=int, help="Only with this many metrics.")
@click.option("--values", type=click.Choice(list(VALUES)), help="Only these; cuda needs a GPU.")
@click.option("--threads", type=int, help="Only from so many threads at once.")
@click.option("--busy", is_flag=True, help="Only beside a busy Python thread.")
def main(  # noqa: PLR0917 - one argument an option
    rounds: int,
    only: tuple[str, ...],
    quick: bool,
    path: Path | None,
    seconds: float,
    loop_seconds: float,
    metrics: tuple[int, ...],
    values: str | None,
    threads: int | None,
    busy: bool,
) -> None:
    """Measure, and print what a call costs in the loop, by that of a JSON line, and in a tight loop."""
    names = [name for name in LOGGERS if not only or name in only]
    chosen = bool(metrics or values or threads or busy)
    if chosen:
        kind = values or "floats"
        _refuse_what_cannot_be(kind)
        combinations = [
            _combination(count, kind, busy=busy, threads=threads or 1) for count in metrics or (10,)
        ]
    else:
        combinations = [one for one in (QUICK if quick else FULL) if has_torch() or one["values"] != "torch"]
    played = Rounds("cost_of_log", 1 if quick else rounds, path, SAID)
    if not has_torch():
        played.console.print(f"In a tight loop only: {NO_TORCH}.")
    elif loop_seconds:
        step = f"{ON_GPU}, on the GPU" if values == "cuda" else SMALL
        played.console.print(f"The training step: {step}, torch on one thread.")
    budget = (seconds / 4, loop_seconds / 3) if quick else (seconds, loop_seconds)
    with store_template() as store:

        def measure_one(case: Case) -> Figures:
            return measure("log_worker", *_arguments(case, *budget), environment={**QUIET, **store})

        cases = [case for one in combinations for case in _cases(one, names)]
        if quick and not chosen:
            cases = [case for case in cases if case["logger"] in OURS or QUICK[0].items() <= case.items()]
        played.play(cases, measure_one)
    played.show()


def _refuse_what_cannot_be(kind: str) -> None:
    """Raise ``ClickException`` for values that this machine does not have, before anything is measured."""
    if kind in {"torch", "cuda"} and not has_torch():
        raise click.ClickException(f"--values {kind}: torch is not installed")
    if kind == "cuda" and not has_gpu():
        raise click.ClickException(
            "--values cuda needs a GPU that torch can use, and torch.cuda.is_available() is False here"
        )


def _cases(combination: Case, names: list[str]) -> Iterator[Case]:
    for name in names:
        if combination["threads"] == 1 or LOGGERS[name].fast:
            yield {"logger": name, **combination}


def _arguments(case: Case, seconds: float, loop_seconds: float) -> list[object]:
    """For the worker. Beside a busy thread or from several, the steps would not be what they are alone."""
    numbers = [f"--metrics={case['metrics']}", f"--values={case['values']}", f"--threads={case['threads']}"]
    alone = not case["busy"] and case["threads"] == 1
    loop = loop_seconds if alone and has_torch() else 0
    more = ["--busy"] if case["busy"] else []
    return [case["logger"], *numbers, f"--seconds={seconds}", f"--loop-seconds={loop}", *more]


if __name__ == "__main__":
    main()
