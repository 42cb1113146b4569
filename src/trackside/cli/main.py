"""``trackside``: the command line. Each command has a module of its own beside this one."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click

from trackside import __version__
from trackside.cli.demo import demo
from trackside.cli.reap import reap
from trackside.cli.run import run
from trackside.cli.status import status
from trackside.cli.sync import sync
from trackside.errors import TracksideError
from trackside.redaction.redact import redact
from trackside.text import printable

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Group(click.Group):
    """Turns trackside's own exceptions into one line and exit code 1, for every command."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except TracksideError as error:
            raise click.ClickException(printable(redact(str(error)))) from error


class _LineHandler(logging.Handler):
    """Writes plain lines to the current stderr, which a progress bar may have replaced."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            level = record.levelname.lower()
            colour = {"warning": "yellow", "error": "red", "critical": "red"}.get(level)
            click.echo(f"{click.style(level, fg=colour)}: {printable(self.format(record))}", err=True)
        except Exception:  # what logging asks of every handler
            self.handleError(record)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=lambda ctx, _, asked: _print_version(ctx) if asked else None,
    help="Show the versions of trackside and MLflow, and exit.",
)
@click.pass_context
def main(ctx: click.Context) -> None:
    """Carry metrics from your training loop to MLflow."""
    ctx.with_resource(_readable_warnings())


def _print_version(ctx: click.Context) -> None:
    click.echo(f"trackside {__version__}\n{_mlflow_here()}")
    ctx.exit()


def _mlflow_here() -> str:
    """MLflow's version, and why the bulk store is off if it is."""
    from importlib.metadata import PackageNotFoundError, version

    from trackside.bulk_store.versions import why_unsupported

    try:
        found = version("mlflow")
    except PackageNotFoundError:
        return "MLflow is not installed"
    reason = why_unsupported(found)
    return f"MLflow {found}" if reason is None else f"MLflow {found}. The bulk store is off: {reason}"


@contextmanager
def _readable_warnings() -> Iterator[None]:
    """Show trackside's warnings for as long as the command runs."""
    logger, handler = logging.getLogger("trackside"), _LineHandler()
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


for command in (demo, run, status, sync, reap):
    main.add_command(command)
