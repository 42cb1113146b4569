"""Tables of medians with their spread, and of ratios to one row."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple

from rich.table import Table

from benchmarks.spread import ratios, spread, values_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.worker import Figures


class Column(NamedTuple):
    """A figure; with ``base``, how many times that of the base it is."""

    heading: str
    figure: str
    how: str = ",.1f"
    base: Sequence[Figures] | None = None

    def cell(self, rounds: Sequence[Figures]) -> str:
        """The median over the rounds, and from where to where they went."""
        if self.base is not None:
            found = ratios(rounds, self.base, self.figure)
            return f"{statistics.median(found):{self.how}}" if found else "-"
        values = values_of(rounds, self.figure)
        if not values:
            return "-"
        numbers = all(isinstance(value, (int, float)) for value in values)
        return spread(values, self.how) if numbers else ", ".join(sorted(set(map(str, values))))


def table(title: str, rows: Mapping[str, Sequence[Figures]], columns: Sequence[Column]) -> Table:
    """A row for each logger; one that failed in any round says why."""
    made = Table("logger", *(column.heading for column in columns), title=title)
    for name, rounds in rows.items():
        errors = [found["error"] for found in rounds if "error" in found]
        made.add_row(name, *(errors[:1] or (column.cell(rounds) for column in columns)))
    return made
