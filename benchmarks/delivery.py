"""How fast points get into MLflow's database: ``python -m benchmarks.delivery``.

Each way runs in a process of its own; rounds are interleaved, and what counts is the ratio to MLflow's
``log_batch`` by hand within a round. sqlite's file is fresh each time; PostgreSQL is a server of the
benchmark's own, with fsync off, whose runs are new each time. A server is a stock ``mlflow server``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import click
from rich.console import Console

from benchmarks.machine import in_a_line
from benchmarks.places import BULK, PLACES, addresses_in
from benchmarks.results import Results
from benchmarks.rounds import options
from benchmarks.sections import BY_HAND, show
from benchmarks.worker import Figures, measure

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Way(NamedTuple):
    """How points are delivered: the worker's way, what comes before the address, and the environment."""

    way: str
    prefix: str = ""
    environment: Mapping[str, str] = {}


DATABASE_WAYS = {
    BY_HAND: Way("by-hand"),
    "log_batch by hand, bulk store": Way("by-hand", BULK),
    "plain insert (the store's limit)": Way("floor"),
    "trackside, bulk store off": Way("trackside", environment={"TRACKSIDE_BULK_STORE": "off"}),
    "trackside": Way("trackside"),
}
SERVER_WAYS = {
    BY_HAND: Way("by-hand"),
    "log_batch by hand, bulk store": Way("by-hand", BULK),
    "trackside": Way("trackside"),
    "trackside, bulk store": Way("trackside", BULK),
}


@click.command()
@click.option("--points", default=100_000, show_default=True, help="Into a database.")
@click.option("--server-points", default=40_000, show_default=True, help="Into a server.")
@click.option("--workers", default=4, show_default=True, help="Of a server; 4 are MLflow's own default.")
@options(2, PLACES)
def main(  # noqa: PLR0917 - one argument an option
    points: int,
    server_points: int,
    workers: int,
    rounds: int,
    only: tuple[str, ...],
    quick: bool,
    path: Path | None,
) -> None:
    """Measure, and print points a second and how many times those of log_batch by hand they are."""
    console, results = Console(width=120), Results("delivery")
    share, rounds = (10, 1) if quick else (1, rounds)
    places = only or (PLACES[:-1] if quick else PLACES)
    console.print(in_a_line(results.machine))
    for number in range(rounds):
        for place in places:
            count = (server_points if "server" in place else points) // share
            for name, figures in _measure_place(place, count, workers):
                results.add(key_of(place, name), figures)
                results.save(path)
                console.print(f"round {number + 1}/{rounds}, {place}, {name}: {_said(figures)}")
    show(results, console)


def key_of(place: str, way: str) -> str:
    """What the results have it under."""
    return f"{place}: {way}"


def ways_in(place: str) -> Mapping[str, Way]:
    """By their name."""
    return SERVER_WAYS if "server" in place else DATABASE_WAYS


def _measure_place(place: str, points: int, workers: int):
    """The figures of each way; where the place can't be had, that is what all of them say."""
    fields = {"place": place, "points": points, "keys": 10}
    if "server" in place:
        fields["workers"] = workers
    try:
        with addresses_in(place, workers=workers) as addresses:
            for name, way in ways_in(place).items():
                address = addresses[way.prefix]
                found = measure(
                    "delivery_worker", way.way, address, points, environment=way.environment, timeout=900
                )
                yield name, {**fields, "way": name, **found}
    except (click.ClickException, AssertionError, OSError) as error:
        for name in ways_in(place):
            yield name, {**fields, "way": name, "error": str(error)}


def _said(figures: Figures) -> str:
    return figures.get("error") or f"{figures['rate']:,.0f}/s"


if __name__ == "__main__":
    main()
