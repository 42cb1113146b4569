"""The frame of a benchmark: its options, and interleaved rounds over all that it measures."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console

from benchmarks.machine import in_a_line
from benchmarks.results import Results
from benchmarks.sections import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from benchmarks.worker import Figures

Case = dict[str, Any]
"""What is measured: ``logger`` and whatever else tells it from others. Kept beside its figures."""


def options(rounds: int, names: Iterable[str]) -> Callable[[Any], Any]:
    """The options that every benchmark has."""
    offered = [
        click.option("--rounds", default=rounds, show_default=True, help="Interleaved; medians are shown."),
        click.option("--only", multiple=True, type=click.Choice(list(names)), help="Measure only these."),
        click.option("--quick", is_flag=True, help="One round of the main cases, kept small."),
        click.option("--json", "path", type=click.Path(path_type=Path), help="In place of docs/benchmarks."),
    ]

    def decorate(command: Any) -> Any:
        for option in reversed(offered):
            command = option(command)
        return command

    return decorate


def key(case: Case) -> str:
    """``trackside, metrics 10, values floats``."""
    return ", ".join([case["logger"], *(f"{name} {case[name]}" for name in case if name != "logger")])


@dataclass
class Rounds:
    """Measures every case in every round, so that a machine whose speed drifts treats them alike."""

    benchmark: str
    number: int
    path: Path | None
    said: tuple[str, ...] = ()
    """The figures to print of each measurement; none: all of them."""
    console: Console = field(default_factory=lambda: Console(width=None if sys.stdout.isatty() else 150))

    def __post_init__(self) -> None:
        """Describe the machine before it is under load."""
        self.results = Results(self.benchmark)

    def play(self, cases: Sequence[Case], measure: Callable[[Case], Figures]) -> None:
        """Measure, say so, and save after each one: an interrupted benchmark has something to show."""
        for number in range(1, self.number + 1):
            for case in cases:
                figures = measure(case)
                self.results.add(key(case), {**case, **figures})
                self.results.save(self.path)
                found = f"round {number}/{self.number}: {key(case)}: {self._said(figures)}"
                self.console.print(found, style="dim")
        self.console.print(in_a_line(self.results.machine))

    def _said(self, figures: Figures) -> str:
        chosen = [name for name in (*self.said, "error") if name in figures] if self.said else list(figures)
        return ", ".join(f"{name} {_short(figures[name])}" for name in chosen)

    def show(self) -> None:
        """Print the tables that the page will have."""
        show(self.results, self.console)

    def of(self, case: Case) -> list[Figures]:
        """What was found for it in all rounds."""
        return self.results.of(key(case))


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
