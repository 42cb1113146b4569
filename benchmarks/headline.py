"""The headline of all results: what a log costs in a training loop, and what a kill leaves of it."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from benchmarks.machine import in_a_line
from benchmarks.spread import values_of
from benchmarks.tables import Column, Table, cells, one

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.results import Results
    from benchmarks.worker import Figures

BEGIN, END = "<!-- renewed by `python -m benchmarks.report` -->", "<!-- to here -->"

CHOSEN = {"metrics": 10, "values": "floats", "busy": False, "threads": 1}

PACKAGES = {"mlflow async": "mlflow", "mlflow, journal+": "mlflow"}
"""Whose version it is, where that is not the name of the row."""


def headline(found: Mapping[str, Results | None]) -> Table:
    """A row a library, the cheapest in the loop first."""
    costs, survival = found.get("cost_of_log"), found.get("survival")
    rows = _rows(costs) if costs else {}
    ours = rows.get("trackside", [])
    columns = [
        Column("in the loop: median", "loop_median"),
        Column("times a JSON line's", "by_line", ",.2f"),
        Column("times trackside's", "loop_median", base=ours),
        Column("p99.9", "loop_p99.9"),
        Column("tight loop: median", "tight_median"),
    ]
    head = ["logger", *(column.title for column in columns), "kept at a SIGKILL", "status it then shows"]
    cheapest = sorted(rows, key=lambda name: _lowest(rows[name]))
    made = [
        [_labelled(name, costs), *cells(rows[name], columns), *_kept(survival, name)] for name in cheapest
    ]
    return Table("In a training loop: one call with 10 floats, in µs", head, made)


def how_measured(found: Mapping[str, Results | None]) -> str:
    """How the headline was measured, and on what."""
    costs = found.get("cost_of_log")
    if costs is None:
        return "Not measured yet: `python -m benchmarks.cost_of_log`."
    measured = [one for rounds in _rows(costs).values() for one in rounds]
    steps, calls = values_of(measured, "step"), values_of(measured, "loop_calls")
    sources = [results for name in ("cost_of_log", "survival") if (results := found.get(name))]
    commands = " and ".join(f"`{results.command}`, begun {results.begun}" for results in sources)
    loop = (
        f"Each call comes behind a training step of {median(steps):.0f} µs. "
        f"There are {min(calls):,} to {max(calls):,} calls of each logger in a round. "
        if steps
        else ""
    )
    return f"{loop}{commands}: {in_a_line(costs.machine)}."


def renewed(text: str, found: Mapping[str, Results | None]) -> str:
    """``text`` with the headline's table between the two comments, and how it was measured."""
    if found.get("cost_of_log") is None:
        return text
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{headline(found).markdown()}\n\n{how_measured(found)}\n\n{END}{after}"


def _rows(costs: Results) -> dict[str, list[Figures]]:
    names = dict.fromkeys(rounds[0]["logger"] for rounds in costs.rounds.values())
    return {name: rounds for name in names if (rounds := one(costs, logger=name, **CHOSEN))}


def _lowest(rounds: list[Figures]) -> float:
    return min(values_of(rounds, "loop_median") or values_of(rounds, "tight_median"), default=float("inf"))


def _labelled(name: str, costs: Results | None) -> str:
    version = costs.machine.get(PACKAGES.get(name, name)) if costs else None
    return f"{name} {version}" if version else name


def _kept(survival: Results | None, name: str) -> list[str]:
    """The share of the samples that a kill left, from the worst round to the best, and the run's status."""
    rounds = one(survival, logger=name, end="killed") if survival else []
    shares = [found["kept"] / found["logged"] for found in rounds if found.get("logged")]
    if not shares:
        return ["-", "-"]
    low, high = (f"{share:.0%}" for share in (min(shares), max(shares)))
    kept = "all" if min(shares) == 1 else low if low == high else f"{low} to {high}"
    return [kept, ", ".join(dict.fromkeys(found["status"] for found in rounds if "status" in found))]
