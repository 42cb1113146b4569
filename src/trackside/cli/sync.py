"""``trackside sync``: deliver the journals here."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trackside.cli.options import Duration, directory_option, existing_directory, journals_lying_in
from trackside.text import one_line

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory
    from trackside.shipper.sync import Synced
    from trackside.shipper.sync_progress import SyncProgress


def _address(_ctx: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    """Return the option as an absolute address, because the shipper may run in another folder."""
    from trackside.destinations.mlflow.address import checked_address
    from trackside.errors import ConfigurationError
    from trackside.settings import absolute_tracking_uri

    if value is None:
        return None
    try:
        return absolute_tracking_uri(checked_address(value, "the address"))
    except ConfigurationError as error:
        raise click.BadParameter(str(error)) from error


_JOURNAL = click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)


@click.command()
@click.argument("journals", nargs=-1, type=_JOURNAL)
@directory_option
@click.option("--tracking-uri", callback=_address, help="Deliver to this MLflow, not to the recorded one.")
@click.option(
    "--give-up-after",
    type=Duration(),
    default="60s",
    show_default=True,
    help="How long to wait for a server that does not answer.",
)
@click.option("--trust", is_flag=True, help="Deliver the JOURNALS you name even if another user made them.")
@click.option(
    "--allow-import",
    metavar="NAME",
    multiple=True,
    help="Allow a destination's dotted name, package.module:Class, to be imported.",
)
@click.pass_context
def sync(
    ctx: click.Context,
    *,
    journals: tuple[Path, ...],
    directory: Path | None,
    tracking_uri: str | None,
    give_up_after: float,
    trust: bool,
    allow_import: tuple[str, ...],
) -> None:
    """Deliver the JOURNALS you name, or all journals here that have no live process.

    A journal of a live run is left to its own shipper. If the shipper of an ended run fails to deliver, this
    command asks it to leave and takes over. The exit code is 0 if everything is delivered, and 1 if not.

    A journal holds no credentials. Set MLFLOW_TRACKING_URI, MLFLOW_TRACKING_USERNAME and so on as the
    training had them. They go only to the server that MLFLOW_TRACKING_URI or --tracking-uri names.

    If a journal was copied, belongs to another user or can be written by others, name it. This command then
    shows what it would do and asks you. --trust answers yes. Destinations named by a dotted path are
    imported only with --allow-import.
    """
    if trust and not journals:
        raise click.UsageError("name the JOURNALS that you trust, because --trust is not for all of them")
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.family import parents_first
    from trackside.shipper.unread import remove_unread

    where = None if journals else existing_directory(directory)
    if where is not None:
        remove_unread(where)
    found = [JournalDirectory(path) for path in journals] or journals_lying_in(where)
    if not found:
        click.echo("nothing to deliver")
        return
    for journal in found if journals else ():
        _ask(journal, tracking_uri, allow_import, trust=trust)
    results = _deliver(parents_first(found), tracking_uri, give_up_after, allow_import)
    for one in results:
        detail = f" ({one.detail})" if one.detail else ""
        click.echo(one_line(f"{one.journal.name}: {one.result}{detail}"))
    left_alone = {"running", "busy"} if not journals else set()
    ctx.exit(int(any(one.result not in {"delivered", "gone", *left_alone} for one in results)))


def _ask(
    journal: JournalDirectory, tracking_uri: str | None, importable: tuple[str, ...], *, trust: bool
) -> None:
    """If ``journal`` may be another user's work, ask, and vouch for it if the user agrees."""
    from trackside.journal.meta import read_meta
    from trackside.journal.provenance import why_untrusted
    from trackside.journal.trust import vouch_for, withdraw
    from trackside.shipper.handed_over import effects, links_in

    reason = why_untrusted(journal)
    if reason is None:
        return
    vouch_for(journal.path)  # until the answer, because its contents must be read first
    newer, meta = journal.why_newer(), read_meta(journal)
    told = [] if newer is None else [f"It can't be delivered: {newer}."]
    told += [] if meta is None else effects(journal, meta, tracking_uri=tracking_uri, importable=importable)
    links = [f"It holds {name}, which is not a file. Remove that first." for name in links_in(journal)]
    for line in (f"{journal.name} may be another user's work: {reason}.", *told, *links):
        click.echo(one_line(line), err=True)
    wanted = trust or (not links and sys.stdin.isatty() and click.confirm("Deliver it?", err=True))
    if links or not wanted:
        withdraw(journal.path)
        if not (links or sys.stdin.isatty()):
            click.echo("It is not delivered. To deliver it, run this again with --trust.", err=True)


def _deliver(
    journals: list[JournalDirectory],
    tracking_uri: str | None,
    give_up_after: float,
    importable: tuple[str, ...],
) -> list[Synced]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

    from trackside.cli.columns import Remaining
    from trackside.shipper.sync import sync_all

    name, files = (TextColumn(text, markup=False) for text in ("{task.description}", "{task.fields[files]}"))
    columns = (name, BarColumn(), MofNCompleteColumn(), Remaining(), files)
    tasks: dict[str, TaskID] = {}
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as bars:

        def show(journal: JournalDirectory, progress: SyncProgress) -> None:
            if journal.name not in tasks:
                tasks[journal.name] = bars.add_task(one_line(journal.name), total=None, files="")
            done, total = progress.points, progress.points_total
            bars.update(tasks[journal.name], completed=done, total=total, files=progress.left)

        return list(
            sync_all(
                journals,
                tracking_uri=tracking_uri,
                give_up_after=give_up_after,
                on_progress=show,
                importable=importable,
            )
        )
