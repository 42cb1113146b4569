"""``trackside reap``: close the runs of machines that vanished."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from urllib.parse import quote

import click

from trackside.cli.options import Duration
from trackside.text import format_duration, one_line


@click.command()
@click.option(
    "--older-than", type=Duration(), default="10m", show_default=True, help="Time without a heartbeat."
)
@click.option("--dry-run", is_flag=True, help="Only list what would be closed.")
@click.option(
    "--tracking-uri", help="MLflow's address. [default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]"
)
@click.pass_context
def reap(ctx: click.Context, *, older_than: float, dry_run: bool, tracking_uri: str | None) -> None:
    """Close runs that show RUNNING though their machine has vanished.

    Every live run sends a heartbeat each 30 s, and each 60 s after its first ten minutes. A run without one
    for --older-than becomes KILLED, and its end is its last heartbeat. This command leaves a run alone if its
    training process lives on this machine, or if trackside did not make it. The exit code is 1 if a run
    could not be closed.
    """
    from trackside.destinations.answers import limit_answers
    from trackside.destinations.mlflow.reaper import close_run, stale_runs
    from trackside.mlflow_utils import import_mlflow
    from trackside.redaction.redact import redact
    from trackside.settings import DEFAULT_TRACKING_URI, absolute_tracking_uri, read_environment
    from trackside.shipper.inventory import living_runs

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ["MLFLOW_ENABLE_ASYNC_LOGGING"] = "false"  # report "closed" only once it is stored
    settings = read_environment()
    uri = absolute_tracking_uri(tracking_uri or settings.tracking_uri or DEFAULT_TRACKING_URI)
    _require_store(uri)
    mlflow = import_mlflow()
    limit_answers()
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        found = stale_runs(client, older_than=older_than, alive=living_runs(settings.directory))
    except mlflow.MlflowException as error:
        reason = one_line(redact(str(error))[:300])
        raise click.ClickException(f"MLflow does not answer: {reason}") from error
    failed = False
    for stale in found:
        silence = format_duration(stale.silent_seconds)
        label = one_line(f"{stale.run_id} {stale.run_name} on {stale.host}, silent for {silence}")
        if dry_run:
            click.echo(f"would close {label}")
            continue
        try:
            closed = close_run(client, stale)
            click.echo(
                f"closed {label}"
                if closed
                else f"left alone {one_line(stale.run_id)}: it has shown life, or ended"
            )
        except mlflow.MlflowException as error:
            failed = True
            click.echo(one_line(f"could not close {label}: {redact(str(error))[:300]}"), err=True)
    if not found:
        click.echo("no run has lost its heartbeat")
    ctx.exit(int(failed))


def _require_store(uri: str) -> None:
    """Fail for a local store that is not there: MLflow would make an empty one, and find nothing in it."""
    from trackside.bulk_store.uri import plain_uri
    from trackside.system.sqlite_address import path_in

    path = plain_uri(uri)
    if path.startswith("sqlite:///"):
        database = path_in(path.removeprefix("sqlite:///"))
        if not database.startswith(":memory:") and not _has_experiments(database):
            _fail(f"{database} is not an MLflow database" if os.path.exists(database) else f"no {database}")
    elif path.startswith(("file:", "/")):
        folder = path.removeprefix("file:")
        folder = folder if not folder.startswith("//") else "/" + folder.lstrip("/")
        if not os.path.isdir(folder):
            _fail(f"no {folder}")


def _has_experiments(database: str) -> bool:
    address = f"file:{quote(database)}?mode=ro"
    try:
        with closing(sqlite3.connect(address, uri=True)) as connection:
            return connection.execute("SELECT 1 FROM experiments LIMIT 1").fetchone() is not None
    except sqlite3.OperationalError as error:
        return "locked" in str(error)  # another process writes into it, so it exists
    except sqlite3.DatabaseError:
        return False


def _fail(what: str) -> None:
    raise click.UsageError(
        f"{what}: name the store by --tracking-uri or MLFLOW_TRACKING_URI, or run this where the training ran"
    )
