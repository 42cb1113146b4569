"""Many runs into one MLflow server on PostgreSQL: ``python -m benchmarks.fleet``.

All runs start at the same moment and log ten metrics each second. A third of the way the server is killed,
and started again after the outage. When the last run has ended, each point is looked up in PostgreSQL.

The server, PostgreSQL and the fleet share this machine, and a fleet has its own machines elsewhere. So the
server here is slower than the same server alone, and the shippers have a lower priority, as always.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchmarks.fleet_play import Fleet, Play
from benchmarks.machine import in_a_line
from benchmarks.places import BULK
from benchmarks.results import Results
from benchmarks.rounds import options
from benchmarks.sections import FAULTS, show
from tests.faults.postgres import find_programs, postgres_server

if TYPE_CHECKING:
    from pathlib import Path

    from benchmarks.worker import Figures

STORES = {"stock store": "", "bulk store": BULK}
RUNS = (10, 100, 1000)
QUICK = (10, 40)


@click.command()
@click.option("--runs", "numbers", multiple=True, type=int, help="[default: 10, 100, 1000]")
@click.option("--seconds", default=210.0, show_default=True, help="That each run logs for.")
@click.option("--outage", default=60.0, show_default=True, help="Seconds without a server. 0 for none.")
@click.option("--workers", default=4, show_default=True, help="Of the server; 4 are MLflow's own default.")
@click.option("--patience", default=120.0, show_default=True, help="Seconds for the ends of the runs.")
@options(1, STORES)
def main(  # noqa: PLR0917 - one argument an option
    numbers: tuple[int, ...],
    seconds: float,
    outage: float,
    workers: int,
    patience: float,
    rounds: int,
    only: tuple[str, ...],
    quick: bool,
    path: Path | None,
) -> None:
    """Measure, and print what each fleet got from the server, and whether anything was lost."""
    console, results = Console(width=170), Results("fleet")
    console.print(in_a_line(results.machine))
    programs = find_programs()
    if programs is None:
        raise click.ClickException("PostgreSQL is not installed")
    if quick:
        seconds, outage, rounds = min(seconds, 36.0), min(outage, 6.0), 1
    for _ in range(rounds):
        for runs in numbers or (QUICK if quick else RUNS):
            for store in only or STORES:
                fleet = Fleet(runs, STORES[store], seconds, outage, workers, patience)
                with postgres_server(programs) as postgresql:
                    found = _play(Play(fleet, postgresql))
                case = {
                    "store": store,
                    "runs": runs,
                    "workers": workers,
                    "outage": outage,
                    "seconds": seconds,
                }
                results.add(f"{store}, {runs} runs", {**case, **found})
                results.save(path)
                console.print(f"{store}, {runs} runs: {_said(found)}")
    show(results, console)


def _play(play: Play) -> Figures:
    try:
        return play.play()
    except (AssertionError, OSError, IndexError) as error:
        return {"error": str(error) or type(error).__name__}


def _said(found: Figures) -> str:
    if "error" in found:
        return str(found["error"])
    wrong = [f"{found[name]:,} {name}" for name in FAULTS if found[name]]
    return f"{found['logged']:,} points, {', '.join(wrong) or 'each once, all runs ended'}"


if __name__ == "__main__":
    main()
