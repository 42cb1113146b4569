"""Writes docs/benchmarks.md and its plots from the results there are: ``python -m benchmarks.report``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from benchmarks.machine import in_a_line
from benchmarks.plots import draw
from benchmarks.results import RESULTS, Results, load
from benchmarks.sections import TABLES
from benchmarks.targets import targets_table
from benchmarks.texts import FAIRNESS, INTRODUCTION, SECTIONS, TITLE

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = RESULTS.parents[1] / "benchmarks.md"


@click.command()
@click.option("--results", "directory", default=RESULTS, type=click.Path(path_type=Path), show_default=True)
@click.option("--page", default=PAGE, type=click.Path(path_type=Path), show_default=True)
def main(directory: Path, page: Path) -> None:
    """Read the results in a directory; write the page, and the plots in benchmarks/plots beside it."""
    found = {benchmark: load(benchmark, directory) for benchmark in SECTIONS}
    plots = page.parent / "benchmarks" / "plots"
    drawn = draw({name: results for name, results in found.items() if results}, plots)
    page.write_text("\n\n".join(_page(found, drawn)) + "\n", "utf-8")
    click.echo(f"{page}, {len(drawn)} plots in {plots}")


def _page(found: dict[str, Results | None], drawn: set[str]) -> Iterator[str]:
    yield f"# {TITLE}"
    yield INTRODUCTION.strip()
    yield "## Targets"
    yield targets_table(found)
    yield "## Fairness"
    yield FAIRNESS.strip()
    for benchmark, results in found.items():
        yield from _section(benchmark, results, drawn)


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
    yield from TABLES[benchmark](results)


if __name__ == "__main__":
    main()
