"""Catching up after an outage while training goes on: ``python -m benchmarks.outage``.

sqlite's file is locked by another connection, PostgreSQL is stopped, a server is not there yet when the run
begins; meanwhile many points are emitted at once. Then the place comes back, and a training of some 5 ms a
step goes on, 10 metrics a step. How long until what is kept is delivered, and what do the steps feel of it?
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchmarks.machine import in_a_line
from benchmarks.outage_worker import OUTAGES
from benchmarks.results import Results
from benchmarks.rounds import options
from benchmarks.sections import show
from benchmarks.worker import measure

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.worker import Figures


@click.command()
@click.option("--points", default=1_000_000, show_default=True, help="Emitted meanwhile; for a database.")
@click.option("--server-points", default=100_000, show_default=True, help="The same, for a server.")
@click.option("--calm", default=4.0, show_default=True, help="Seconds of training before and after.")
@click.option("--patience", default=120.0, show_default=True, help="Seconds for catching up.")
@options(1, OUTAGES)
def main(  # noqa: PLR0917 - one argument an option
    points: int,
    server_points: int,
    calm: float,
    patience: float,
    rounds: int,
    only: tuple[str, ...],
    quick: bool,
    path: Path | None,
) -> None:
    """Measure, and print how long catching up takes and what a step takes meanwhile."""
    console, results = Console(width=140), Results("outage")
    console.print(in_a_line(results.machine))
    places = only or list(OUTAGES)[: -1 if quick else None]
    for number in range(1 if quick else rounds):
        for place in places:
            count = (server_points if "server" in place else points) // (10 if quick else 1)
            found = measure("outage_worker", place, count, calm, patience, timeout=patience + 300)
            results.add(place, {"place": place, "points": count, **found})
            results.save(path)
            console.print(f"round {number + 1}, {place}: {_said(found)}")
    show(results, console)


def _said(figures: Figures) -> str:
    if "error" in figures:
        return figures["error"]
    if not figures["caught_up"]:
        return f"{figures['behind_after']:,} points behind after {figures['seconds']:.0f} s"
    return f"caught up in {figures['seconds']:.1f} s"


if __name__ == "__main__":
    main()
