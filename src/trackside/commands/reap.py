"""``trackside reap``: close the runs of machines that vanished."""

from __future__ import annotations

import os
import re

import click

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class Duration(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since click 8.4
    """A length of time such as ``90s``, ``10m``, ``2h`` or ``1d``, in seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds; fails with the forms there are."""
        if isinstance(value, (int, float)):
            return float(value)
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smhd]?)", str(value).strip())
        if match is None:
            self.fail(f"{value!r} is no length of time; write 90s, 10m, 2h or 1d", param, ctx)
        return float(match[1]) * _UNITS[match[2] or "s"]


@click.command()
@click.option(
    "--older-than", type=Duration(), default="10m", show_default=True, help="Silence that counts as gone."
)
@click.option("--dry-run", is_flag=True, help="Only say what would be closed.")
@click.option(
    "--tracking-uri", help="MLflow's address. [default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]"
)
@click.pass_context
def reap(ctx: click.Context, *, older_than: float, dry_run: bool, tracking_uri: str | None) -> None:
    """Close runs that show RUNNING though the machine they ran on has vanished.

    Every live run gives a heartbeat each 30 s. Runs whose heartbeat is older become KILLED, as of their
    last heartbeat. A run whose training process lives on this machine is left alone whatever its
    heartbeat says, and so is every run that trackside did not make. Exit code 1 when a run could not be
    closed.
    """
    from trackside.destinations.mlflow_reaper import close_run, stale_runs
    from trackside.mlflow_utils import import_mlflow
    from trackside.settings import DEFAULT_TRACKING_URI, absolute_tracking_uri, read_environment
    from trackside.survey import living_runs

    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    settings = read_environment()
    uri = absolute_tracking_uri(tracking_uri or settings.tracking_uri or DEFAULT_TRACKING_URI)
    mlflow = import_mlflow()
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        found = stale_runs(client, older_than=older_than, alive=living_runs(settings.directory))
    except mlflow.MlflowException as error:
        raise click.ClickException(f"MLflow does not answer: {str(error)[:300]}") from error
    failed = False
    for stale in found:
        label = (
            f"{stale.run_id} {stale.run_name} on {stale.host}, silent for {stale.silent_seconds / 60:.0f} min"
        )
        if dry_run:
            click.echo(f"would close {label}")
            continue
        try:
            close_run(client, stale)
            click.echo(f"closed {label}")
        except mlflow.MlflowException as error:
            failed = True
            click.echo(f"could not close {label}: {str(error)[:300]}", err=True)
    if not found:
        click.echo("no run has lost its heartbeat")
    ctx.exit(int(failed))
