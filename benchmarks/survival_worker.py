"""Has one program log, kills it, and counts what it kept. Started by ``survival``."""

from __future__ import annotations

import os
import random
from collections import Counter
from typing import TYPE_CHECKING

import click

from benchmarks.loggers import LOGGERS
from benchmarks.store import place_store
from benchmarks.watched import Watched, complain
from benchmarks.worker import own_stdout, say

if TYPE_CHECKING:
    from benchmarks.loggers import Kept
    from benchmarks.worker import Figures

PACE = 0.001
PATIENCE = 300.0
"""Seconds for the processes that the program started."""


@click.command()
@click.argument("name", type=click.Choice(list(LOGGERS)))
@click.option("--samples", default=1000)
@click.option("--metrics", default=10)
@click.option("--kill", is_flag=True, help="At a random moment.")
def main(name: str, samples: int, metrics: int, kill: bool) -> None:
    """Log with NAME, and print what was kept."""
    out = own_stdout()
    place_store()
    os.environ.setdefault("TRACKSIDE_START_TIMEOUT", "60")  # the run is there before the first sample
    watched = Watched(name, samples=samples, metrics=metrics, pause=PACE)
    moment = random.randrange(samples * 7 // 10, samples * 9 // 10) if kill else None
    logged = 0
    for event in watched.events():
        logged = max(logged, event.number)
        if event.name == "logged" and event.number == moment:
            watched.note_others()
            watched.kill()
    if watched.wait() != (-9 if kill else 0):
        complain()
    left = watched.wait_for_others(PATIENCE)
    found = _count(LOGGERS[name].kept(), metrics)
    say(
        {"logged": logged, "lost": max(logged - found["kept"], 0), **found, "left": ", ".join(left) or "-"},
        out,
    )


def _count(kept: Kept, metrics: int) -> Figures:
    """Samples that are there as a whole and in part, and points that are there more than once."""
    points = Counter(kept.points)
    samples = Counter(step for _, step in points)
    return {
        "kept": sum(count == metrics for count in samples.values()),
        "partial": sum(count < metrics for count in samples.values()),
        "doubles": points.total() - len(points),
        "status": kept.status or "none kept",
    }


if __name__ == "__main__":
    main()
