"""How delivery grows with a run's points and keys, and what memory it takes: ``python -m benchmarks.scale``.

Into a sqlite file that is fresh each time, beside ``log_batch`` by hand where that takes no minutes. The
largest run is done in the first round only, with 10 metrics a sample.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, NamedTuple

import click
from rich.console import Console

from benchmarks.machine import in_a_line
from benchmarks.places import temporary_directory
from benchmarks.results import Results
from benchmarks.rounds import options
from benchmarks.sections import BY_HAND, show
from benchmarks.worker import Figures, measure
from tests.ends.harness import new_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

GROWTHS = ("points", "keys")
"""What grows."""

BY_HAND_MOST = 100_000
"""Points that ``log_batch`` by hand is asked for: more take minutes."""

LONG = 5_000_000
"""Points above which a run is done once, with 10 metrics a sample only."""

QUICK_MOST = 20_000

MOST_METRICS = 100
"""Metrics a sample: where there are more keys, they take turns."""


class Case(NamedTuple):
    """One run: what it is to show (``points`` or ``keys``), and its size."""

    growth: str
    points: int
    keys: int

    @property
    def metrics(self) -> int:
        """A sample."""
        return min(self.keys, MOST_METRICS)


@click.command()
@click.option("--points", default="10000,100000,1000000,10000000", show_default=True, help="Of a run.")
@click.option("--keys", default="1,10,100,1000,10000", show_default=True, help="Of a run of 1e5 points.")
@options(2, GROWTHS)
def main(  # noqa: PLR0917 - one argument an option
    points: str, keys: str, rounds: int, only: tuple[str, ...], quick: bool, path: Path | None
) -> None:
    """Measure, and print rates, memory, and the cost of an emit at both ends of a run."""
    console, results = Console(width=150), Results("scale")
    console.print(in_a_line(results.machine))
    offered = _cases(_numbers(points), _numbers(keys), quick=quick)
    cases = [case for case in offered if case.growth in (only or GROWTHS)]
    for number in range(1 if quick else rounds):
        for case in cases:
            for way in (BY_HAND, "trackside"):
                if case.points <= (BY_HAND_MOST if way != "trackside" else LONG if number else case.points):
                    found = {**case._asdict(), "metrics": case.metrics, "way": way, **_measure(way, case)}
                    key = f"{case.growth}: {way}, {case.points:,} points, {case.keys:,} keys"
                    results.add(key, found)
                    results.save(path)
                    said = found.get("error") or f"{found['rate']:,.0f}/s"
                    console.print(f"round {number + 1}: {key}: {said}")
    show(results, console)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _cases(points: list[int], keys: list[int], *, quick: bool) -> Iterator[Case]:
    most = min(QUICK_MOST if quick else LONG, max(points))
    for count in points:
        if count <= most or not quick:
            yield Case("points", count, 10)
        if count <= most:
            yield Case("points", count, 100)
    for count in keys[:: 2 if quick else 1]:
        yield Case("keys", min(100_000, most), count)


def _measure(way: str, case: Case) -> Figures:
    with ExitStack() as stack:
        uri = new_database(temporary_directory(stack))
        size = case.points, case.keys, case.metrics
        if way == "trackside":
            return measure("scale_worker", uri, *size, timeout=1200)
        return measure("delivery_worker", "by-hand", uri, *size, timeout=900)


if __name__ == "__main__":
    main()
