"""Writes the page of all results and its plots, and prints the headline: ``python -m benchmarks.report``.

For the docs' own page it also renews the table in the README, between two comments.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from benchmarks.headline import headline, how_measured, renewed
from benchmarks.machine import in_a_line
from benchmarks.plots import draw
from benchmarks.results import RESULTS, Results, load
from benchmarks.sections import TABLES
from benchmarks.targets import targets_table
from benchmarks.texts import FAIRNESS, INTRODUCTION, SECTIONS, TITLE
from benchmarks.worker import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = RESULTS.parents[1] / "benchmarks.md"
README = ROOT / "README.md"


@click.command()
@click.option("--results", "directory", default=RESULTS, type=click.Path(path_type=Path), show_default=True)
@click.option("--page", default=PAGE, type=click.Path(path_type=Path), show_default=True)
def main(directory: Path, page: Path) -> None:
    """Read the results in a directory; write the page, and the plots in benchmarks/plots beside it."""
    found = {benchmark: load(benchmark, directory) for benchmark in SECTIONS}
    plots = page.parent / "benchmarks" / "plots"
    drawn = draw({name: results for name, results in found.items() if results}, plots)
    page.write_text("\n\n".join(_page(found, drawn)) + "\n", "utf-8")
    if page == PAGE:
        README.write_text(renewed(README.read_text("utf-8"), found), "utf-8")
    console = Console(width=None if sys.stdout.isatty() else 150)
    if (table := headline(found)).rows:
        console.print(table.rich(), style="bold")
    console.print(how_measured(found), targets_table(found).rich())
    console.print(f"All of it: {page}, with {len(drawn)} plots in {plots}", soft_wrap=True)


def _page(found: dict[str, Results | None], drawn: set[str]) -> Iterator[str]:
    yield f"# {TITLE}"
    yield INTRODUCTION.strip()
    yield from _headline(found)
    yield "## Targets"
    yield targets_table(found).markdown()
    yield "## Fairness"
    yield FAIRNESS.strip()
    for benchmark, results in found.items():
        yield from _section(benchmark, results, drawn)


def _headline(found: dict[str, Results | None]) -> Iterator[str]:
    table = headline(found)
    yield f"## {table.title}"
    if table.rows:
        yield table.markdown()
    yield how_measured(found)


def _section(benchmark: str, results: Results | None, drawn: set[str]) -> Iterator[str]:
    section = SECTIONS[benchmark]
    yield f"## {section.heading}"
    yield section.how_to_read
    if results is None:
        yield f"Not measured yet: `python -m benchmarks.{benchmark}`."
        return
    yield f"`{results.command}`, begun {results.begun}. {in_a_line(results.machine)}."
    for name, caption in section.plots:
        if name in drawn:
            yield f"![{caption}](benchmarks/plots/{name}.svg)"
    for table in TABLES[benchmark](results):
        yield f"{table.title}:"
        yield table.markdown()


if __name__ == "__main__":
    main()
