"""What was aimed at, and what was measured."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.delivery import BY_HAND
from benchmarks.markdown import one, select, table
from benchmarks.spread import ratios, spread, values_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from benchmarks.results import Results
    from benchmarks.worker import Figures

FLAT = 1.05
"""Memory of the last quarter of a run by that of the first, that still counts as flat."""


class Target(NamedTuple):
    """``found`` are the values of the rounds, whose median is to be at least (or at most) ``wanted``."""

    text: str
    wanted: float
    found: list[float]
    most: bool = False
    unit: str = ""

    def row(self) -> tuple[str, str, str, str]:
        """Of the table of targets."""
        sign = "≤" if self.most else "≥"
        wanted = f"{sign} {self.wanted:g}{self.unit}"
        if not self.found:
            return self.text, wanted, "not measured", "-"
        measured = spread(self.found, ",.2f") + self.unit
        return self.text, wanted, measured, "yes" if self.reached else "**no**"

    @property
    def reached(self) -> bool:
        """Whether the median is where it should be."""
        middle = statistics.median(self.found)
        return middle <= self.wanted if self.most else middle >= self.wanted


def targets_table(results: Mapping[str, Results | None]) -> str:
    """All targets; those nothing was measured for say so."""
    rows = [
        target.row()
        for benchmark, find in TARGETS.items()
        for target in find(results.get(benchmark) or NOTHING)
    ]
    return table(["target", "wanted", "measured", "reached"], rows)


class _Nothing:
    rounds: Mapping[str, list[Figures]] = {}


NOTHING: Results = _Nothing()  # type: ignore[assignment] # all that is asked of it
"""Results of a benchmark that has not been run."""


def _cost_of_log(results: Results) -> Iterator[Target]:
    def ours(metrics: int, values: str = "floats") -> list[Figures]:
        return one(results, logger="trackside", metrics=metrics, values=values, busy=False, threads=1)

    ten, tensors = ours(10), ours(10, "torch")
    yield Target("a log of 10 floats, median", 4, values_of(ten, "median"), most=True, unit=" µs")
    yield Target("a log of 100 floats, median", 12, values_of(ours(100), "median"), most=True, unit=" µs")
    each = [
        (torch["median"] - floats["median"]) / 10
        for torch, floats in zip(tensors, ten, strict=False)
        if "median" in torch and "median" in floats
    ]
    yield Target("a torch CPU scalar above a float, each of 10", 0.3, each, most=True, unit=" µs")
    yield Target("a log of 10 floats, p99.9", 50, values_of(ten, "p99.9"), most=True, unit=" µs")


def _delivery(results: Results) -> Iterator[Target]:
    def rates(place: str, way: str) -> list[float]:
        by_hand = one(results, place=place, way=BY_HAND)
        return ratios(one(results, place=place, way=way), by_hand, "rate")

    def cpu(place: str) -> list[float]:
        stock = one(results, place=place, way="trackside, bulk store off")
        return ratios(stock, one(results, place=place, way="trackside"), "cpu")

    for place, wanted in (("sqlite", 6), ("postgresql", 5)):
        yield Target(f"into {place}, times `log_batch` by hand", wanted, rates(place, "trackside"))
        yield Target(f"into {place}, the shipper's CPU time a point, down by a factor of", wanted, cpu(place))
    for place in ("server on sqlite", "server on postgresql"):
        yield Target(
            f"{place} with the bulk store, times `log_batch` by hand to a stock one",
            2.5,
            rates(place, "trackside, bulk store"),
        )
        yield Target(f"stock {place}, times a serial `log_batch` loop", 1.5, rates(place, "trackside"))


def _scale(results: Results) -> Iterator[Target]:
    runs = select(results, growth="points", way="trackside")
    for metrics, wanted in ((10, 4), (100, 12)):
        most, longest = _longest(runs, metrics)
        text = f"a log of {metrics} floats, median of the last tenth of {most:,} points"
        yield Target(text, wanted, values_of(longest, "emit_last"), most=True, unit=" µs")
        yield Target(f"{text}, by the first", FLAT, _ratio(longest, "emit"), most=True)
    most, longest = _longest(runs, 10)
    for name in ("trainer", "shipper"):
        text = f"resident memory of the {name}, last quarter of {most:,} points by the first"
        yield Target(text, FLAT, _ratio(longest, name), most=True)


def _longest(runs: Mapping[str, list[Figures]], metrics: int) -> tuple[int, list[Figures]]:
    """The largest runs with so many metrics a sample: their points, and what was found."""
    found = [one for rounds in runs.values() for one in rounds if one.get("metrics") == metrics]
    most = max((one["points"] for one in found), default=0)
    return most, [one for one in found if one["points"] == most]


def _ratio(found: list[Figures], name: str) -> list[float]:
    """``name`` at the end of each run by that at its beginning."""
    return [one[f"{name}_last"] / one[f"{name}_first"] for one in found if f"{name}_last" in one]


TARGETS: dict[str, Callable[[Results], Iterator[Target]]] = {
    "cost_of_log": _cost_of_log,
    "delivery": _delivery,
    "scale": _scale,
}
