"""What is aimed at, and what was measured: met, not met, or more than this machine could tell. No test."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.sections import BY_HAND, MOST_OF_A_STEP
from benchmarks.spread import judge, ratios, spread, values_of
from benchmarks.tables import Table, one, select

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
    bounds: tuple[float, float] | None = None
    """Between which the value lies, where one number does not say how sure it is."""

    def row(self) -> tuple[str, str, str, str]:
        """Of the table of targets."""
        wanted = f"{'≤' if self.most else '≥'} {self.wanted:g}{self.unit}"
        if not self.found:
            return self.text, wanted, "not measured", "-"
        return self.text, wanted, spread(self.found, ",.2f") + self.unit, self._met()

    def _met(self) -> str:
        if self.bounds:
            return judge(*self.bounds, self.wanted)
        middle = statistics.median(self.found)
        return "yes" if (middle <= self.wanted if self.most else middle >= self.wanted) else "**no**"


def targets_table(results: Mapping[str, Results | None]) -> Table:
    """All targets; those nothing was measured for say so."""
    rows = [
        (*target.row(), benchmark)
        for benchmark, find in TARGETS.items()
        for target in find(results.get(benchmark) or NOTHING)
    ]
    return Table("Targets", ["target", "wanted", "measured", "met", "by"], rows)


class _Nothing:
    rounds: Mapping[str, list[Figures]] = {}


NOTHING: Results = _Nothing()  # type: ignore[assignment] # all that is asked of it
"""Results of a benchmark that has not been run."""


def _cost_of_log(results: Results) -> Iterator[Target]:
    def ours(metrics: int, values: str = "floats") -> list[Figures]:
        return one(results, logger="trackside", metrics=metrics, values=values, busy=False, threads=1)

    ten, hundred, tensors = ours(10), ours(100), ours(10, "torch")
    loop = "in the loop, a log of"
    yield Target(f"{loop} 10 floats, by a JSON line by hand", 0.5, values_of(ten, "by_line"), most=True)
    yield Target(f"{loop} 10 floats, median", 10, values_of(ten, "loop_median"), most=True, unit=" µs")
    yield Target(f"{loop} 100 floats, median", 30, values_of(hundred, "loop_median"), most=True, unit=" µs")
    above = [
        torch["loop_median"] - floats["loop_median"]
        for torch, floats in zip(tensors, ten, strict=False)
        if "loop_median" in torch and "loop_median" in floats
    ]
    yield Target(f"{loop} 10 torch CPU scalars, above 10 floats", 4, above, most=True, unit=" µs")
    tails, noise = values_of(ten, "tail"), values_of(ten, "empty_tail")
    # Of an empty call's tail nothing is the logger's: where that is too long, the machine hides the answer.
    bounds = (min(tails), max(tails)) if tails else None
    if bounds and bounds[1] > 3 and max(noise) > 3:
        bounds = (min(bounds[0], 3), bounds[1])
    yield Target(f"{loop} 10 floats, p99.9 by median", 3, tails, most=True, bounds=bounds)
    tight = values_of(ten, "tight_median")
    yield Target("in a tight loop, a log of 10 floats, median", 2, tight, most=True, unit=" µs")


def _training_step(results: Results) -> Iterator[Target]:
    ours = one(results, logger="trackside", shape="small", metrics=10)
    lows, highs = values_of(ours, "ratio_low"), values_of(ours, "ratio_high")
    yield Target(
        "a short step that logs 10 metrics, times one that does not",
        MOST_OF_A_STEP,
        values_of(ours, "ratio"),
        most=True,
        bounds=(min(lows), max(highs)) if lows else None,
    )


def _start_and_end(results: Results) -> Iterator[Target]:
    ours = one(results, logger="trackside")
    yield Target("training waits for `start()`", 0.3, values_of(ours, "start"), most=True, unit=" s")
    busy = values_of(ours, "start_busy")
    yield Target("training waits for `start()` beside busy processors", 0.3, busy, most=True, unit=" s")
    served = one(results, logger="trackside, to a server")
    shipper = values_of(served, "shipper_mib")
    yield Target("the shipper's own memory, to an http server", 50, shipper, most=True, unit=" MiB")
    first = values_of(served, "first_point")
    yield Target("first point at the server, after `start()`", 1, first, most=True, unit=" s")


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
    "training_step": _training_step,
    "start_and_end": _start_and_end,
    "delivery": _delivery,
    "scale": _scale,
}
