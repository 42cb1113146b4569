"""``trackside status``: every journal here, and how it is doing."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trackside.survey import JournalReport

_COLOURS = {"running": "green", "shipping": "cyan", "waiting": "yellow"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="Where the journals lie. [default: TRACKSIDE_DIR, else ./.trackside]",
)
@click.pass_context
def status(ctx: click.Context, *, as_json: bool, directory: Path | None) -> None:
    """Show every journal here: run, condition, points, age.

    Counts are points (one metric at one step). Exit code 0 when there is nothing to do, 1 when a journal
    waits for `trackside sync`, can't be read or holds points that no server would take.
    """
    from trackside.settings import read_environment
    from trackside.survey import journals_in, report

    where = directory or read_environment().directory
    reports = [found for journal in journals_in(where) if (found := report(journal)) is not None]
    if as_json:
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(reports), indent=2).decode())
    elif reports:
        _print_table(reports)
    else:
        click.echo(f"no journals in {where}: everything is delivered")
    ctx.exit(int(any(r.condition not in {"running", "shipping"} for r in reports)))


def _print_table(reports: list[JournalReport]) -> None:
    from rich.console import Console
    from rich.table import Table

    titles = (
        "journal",
        "run",
        "condition",
        "status",
        "emitted",
        "shipped",
        "pending",
        "dropped",
        "rejected",
        "age",
    )
    table = Table(*titles)
    for item in reports:
        counts = (item.emitted, item.shipped, item.pending, item.dropped, item.rejected)
        table.add_row(
            Path(item.journal).name,
            item.run_id or "-",
            f"[{_COLOURS.get(item.condition, 'red')}]{item.condition}[/]",
            item.status or "-",
            *(f"{count:,}" for count in counts),
            format_age(item.age_seconds),
        )
    console = Console(width=None if sys.stdout.isatty() else 200)  # a pipe must not cut the names short
    console.print(table)
    for item in reports:
        name = Path(item.journal).name
        if item.error:
            console.print(f"{name}: {item.error}", style="yellow", markup=False)
        for other in item.destinations[1:]:
            told = f"{other.shipped:,} shipped, {other.shaped:,} shaped, {other.rejected:,} rejected"
            text = f"{name}: {other.name}: {told}" + (f"; {other.error}" if other.error else "")
            console.print(text, style="yellow" if other.error else None, markup=False)


def format_age(seconds: float) -> str:
    """``90`` as ``1m 30s``: the two largest units."""
    units = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))
    parts: list[str] = []
    rest = int(seconds)
    for name, size in units:
        if rest >= size or (name == "s" and not parts):
            parts.append(f"{rest // size}{name}")
            rest %= size
    return " ".join(parts[:2])
