"""Tables of results, the same for the terminal and for the page: medians over the rounds, and ratios."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from rich.table import Table as RichTable

from benchmarks.spread import ratios, spread, values_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.results import Results
    from benchmarks.worker import Figures

Rows = dict[str, list["Figures"]]
"""The rounds of each thing measured."""


class Column(NamedTuple):
    """A figure under its title; with ``base``, how many times that of ``base`` it is, round by round."""

    title: str
    figure: str
    how: str = ",.1f"
    base: list[Figures] | None = None


class Table(NamedTuple):
    """Cells of text under a title."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """For a page, without its title."""
        lines = [self.head, ["---"] * len(self.head), *self.rows]
        return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)

    def rich(self) -> RichTable:
        """For a terminal."""
        made = RichTable(*self.head, title=self.title, title_justify="left")
        for row in self.rows:
            made.add_row(*row)
        return made


def figures_table(
    title: str, what: str, rows: Mapping[str, list[Figures]], columns: Sequence[Column]
) -> Table:
    """A row for each thing measured; what failed says why."""
    head = [what, *(column.title for column in columns)]
    return Table(title, head, [[name, *cells(rounds, columns)] for name, rounds in rows.items()])


def select(results: Results, **fields: Any) -> Rows:
    """What was measured with these fields."""
    return {
        key: rounds
        for key, rounds in results.rounds.items()
        if all(rounds[0].get(name) == value for name, value in fields.items())
    }


def one(results: Results, **fields: Any) -> list[Figures]:
    """The rounds of the first thing measured with these fields; none where there is no such."""
    return next(iter(select(results, **fields).values()), [])


def named_by(rows: Rows, field: str) -> Rows:
    """The same rows under their ``field``."""
    return {str(rounds[0][field]): rounds for rounds in rows.values()}


def values_seen(results: Results, *fields: str) -> list[tuple[Any, ...]]:
    """The combinations of these fields, in the order they were measured."""
    found = [tuple(rounds[0].get(name) for name in fields) for rounds in results.rounds.values()]
    return list(dict.fromkeys(found))


def cells(rounds: list[Figures], columns: Iterable[Column]) -> list[str]:
    """A row's cells; the error in the first where there is nothing else."""
    columns = list(columns)
    errors = [found["error"] for found in rounds if "error" in found]
    if rounds and len(errors) == len(rounds):
        return [f"failed: {errors[0]}", *[""] * (len(columns) - 1)]
    return [_cell(rounds, column) for column in columns]


def _cell(rounds: list[Figures], column: Column) -> str:
    if column.base is None:
        found: list[Any] = values_of(rounds, column.figure)
    else:
        found = ratios(rounds, column.base, column.figure)
    if not found:
        return "-"
    if any(isinstance(value, (str, bool)) for value in found):
        words = {True: "yes", False: "no"}
        return ", ".join(dict.fromkeys(str(words.get(value, value)) for value in found))
    return spread(found if len(set(found)) > 1 else found[:1], column.how)
