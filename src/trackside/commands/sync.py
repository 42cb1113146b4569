"""``trackside sync``: deliver what lies here."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory
    from trackside.sync import Synced


def _address(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """The option as an address, absolute: the shipper may run in another folder."""
    from trackside.errors import ConfigurationError
    from trackside.settings import absolute_tracking_uri
    from trackside.tracking_address import checked_address

    if value is None:
        return None
    try:
        return absolute_tracking_uri(checked_address(value, "it"))
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


@click.command()
@click.argument("journals", nargs=-1, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--dir",
    "directory",
    type=click.Path(path_type=Path),
    help="Where to look for journals when none is named. [default: TRACKSIDE_DIR, else ./.trackside]",
)
@click.option("--tracking-uri", callback=_address, help="Deliver to this MLflow instead of the recorded one.")
@click.option(
    "--give-up-after",
    default=60.0,
    show_default=True,
    help="Seconds to wait for a server that does not answer.",
)
@click.pass_context
def sync(
    ctx: click.Context,
    *,
    journals: tuple[Path, ...],
    directory: Path | None,
    tracking_uri: str | None,
    give_up_after: float,
) -> None:
    """Deliver the JOURNALS named, or all that lie here and nobody is at work on.

    Journals of runs that are still alive are left to their own shipper. Credentials are not kept in a
    journal: set MLFLOW_TRACKING_URI or MLFLOW_TRACKING_USERNAME and so on as the training had them. Exit
    code 0 when everything named is delivered, 1 when something is not.
    """
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.family import parents_first
    from trackside.settings import read_environment
    from trackside.survey import journals_in

    found = [JournalDirectory(path) for path in journals] or journals_in(
        directory or read_environment().directory
    )
    if not found:
        click.echo("nothing to deliver")
        return
    results = _deliver(parents_first(found), tracking_uri, give_up_after)
    for one in results:
        click.echo(f"{one.journal.name}: {one.result}{f' ({one.detail})' if one.detail else ''}")
    left_alone = {"running", "busy"} if not journals else set()
    ctx.exit(int(any(one.result not in {"delivered", *left_alone} for one in results)))


def _deliver(
    journals: list[JournalDirectory], tracking_uri: str | None, give_up_after: float
) -> list[Synced]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
    )

    from trackside.sync import sync_journal

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    results = []
    with Progress(*columns, console=Console(stderr=True)) as bars:
        for journal in journals:
            task = bars.add_task(journal.name, total=None)

            def show(done: int, total: int, task: TaskID = task) -> None:
                bars.update(task, completed=done, total=total)

            results.append(
                sync_journal(
                    journal, tracking_uri=tracking_uri, give_up_after=give_up_after, on_progress=show
                )
            )
    return results
