"""``trackside status``: every journal here, and how it is doing."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trackside.cli.options import directory_option, existing_directory, journals_lying_in
from trackside.text import files_text, format_duration, one_line, shorten, size_text

if TYPE_CHECKING:
    from trackside.shipper.inventory import Condition, JournalReport

WIDTH = 100
"""Columns of the table where there is no terminal to ask."""

_TITLES = ("journal", "run", "condition", "status", "emitted", "shipped", "pending")
_LOST = ("dropped", "rejected")
_RUN_ID = 8
"""Characters of a run's id that are shown. `--json` has all of them."""

_OTHERS = 1 + 9 + 15 + 9 + 3 * 8 + 9
"""Columns that all but the names take, each with a space behind it."""

_OTHERS_LOST = _OTHERS + 8 + 9
_SHORTEST_NAME = 16

_MOST_NAMES = 5
"""Files that are named."""

_DELIVERY = {"opening": "has not begun", "failed": "has failed"}

_COLOURS: dict[Condition, str] = {"running": "green", "shipping": "cyan", "waiting": "yellow"}


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print a JSON list instead of a table.")
@directory_option
@click.pass_context
def status(ctx: click.Context, *, as_json: bool, directory: Path | None) -> None:
    """Show every journal here: run, condition, points, age.

    Counts are points (one metric at one step). "artifacts wait" means that metrics and status are
    delivered, and files wait to be uploaded. The exit code is 0 if you have nothing to do. It is 1 if a
    journal waits for `trackside sync`, cannot be read, or holds points that the server rejected.
    """
    from trackside.shipper.inventory import report

    where = existing_directory(directory)
    lying = journals_lying_in(where)
    reports = [found for journal in lying if (found := report(journal)) is not None]
    if as_json:
        import msgspec

        # In ASCII: whatever a name holds, neither the terminal nor the encoding can choke on it.
        click.echo(json.dumps(msgspec.to_builtins(reports), indent=2))
    elif reports:
        _print_table(reports)
    else:
        place = f"in {where}" if where is not None else f"here: {Path.cwd()} has no folder .trackside"
        there = "here" if where is None else "there"
        click.echo(f"no journals {one_line(place)}. Nothing waits for delivery {there}.")
    ctx.exit(int(any(r.condition not in {"running", "shipping"} for r in reports)))


def _print_table(reports: list[JournalReport]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(width=None if sys.stdout.isatty() else WIDTH)
    lost = any(item.dropped or item.rejected for item in reports)
    titles = [*_TITLES, *(_LOST if lost else []), "age"]
    table = Table(*titles, box=None, padding=(0, 1, 0, 0), header_style="bold")
    names = _names(reports, console.width - (_OTHERS_LOST if lost else _OTHERS))
    for item, name in zip(reports, names, strict=True):
        counts = [item.emitted, item.shipped, item.pending, *([item.dropped, item.rejected] if lost else [])]
        table.add_row(
            Text(name),
            Text(one_line(item.run_id or "-")[:_RUN_ID]),
            Text(item.condition, style=_COLOURS.get(item.condition, "red")),
            Text(one_line(item.status or "-")),
            *map(_count, counts),
            format_duration(item.age_seconds),
        )
    console.print(table)
    for item in reports:
        name = Path(item.journal).name
        if item.artifacts or item.files.waiting:
            console.print(Text(one_line(f"{name}: {_waiting_files(item)}")))
        if item.condition == "running" and item.delivery in _DELIVERY:
            because = f": {item.error}" if item.error else ""
            console.print(
                Text(one_line(f"{name}: delivery {_DELIVERY[item.delivery]}{because}"), style="yellow")
            )
        elif item.error:
            console.print(Text(one_line(f"{name}: {item.error}"), style="yellow"))
        for other in item.destinations[1:]:
            told = f"{other.shipped:,} shipped, {other.merged:,} merged, {other.rejected:,} rejected"
            text = f"{name}: {other.name}: {told}" + (f"; {other.error}" if other.error else "")
            console.print(Text(one_line(text), style="yellow" if other.error else ""))


def _waiting_files(item: JournalReport) -> str:
    """Which files wait, how many there are, and how far the current one is."""
    more = len(item.artifacts) - _MOST_NAMES
    names = ", ".join(item.artifacts[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
    told = [f"waiting to be uploaded: {names or 'files'}"]
    if item.files.waiting:
        told.append(f"{files_text(item.files.waiting)}, {size_text(item.files.bytes_waiting)}")
    current = item.uploading
    if current is not None:
        told.append(
            f"{size_text(current.sent)} of {size_text(current.size)} of {current.place} have gone out"
        )
    return "; ".join(told)


def _names(reports: list[JournalReport], width: int) -> list[str]:
    """Return the journals' names as they fit. Long ones lose their middle, and still differ."""
    return [shorten(one_line(Path(item.journal).name), max(width, _SHORTEST_NAME)) for item in reports]


def _count(number: int) -> str:
    """``number`` in at most seven characters: ``999,999``, then ``1.23M``."""
    for size, unit in ((10**12, "T"), (10**9, "G"), (10**6, "M")):
        if number >= size:
            return f"{number / size:.2f}{unit}"
    return f"{number:,}"
