"""``trackside run``: run a command with trackside under it.

This module checks the options and sets the environment. Then it becomes the parent process by ``exec``
(:mod:`trackside.parent_process`), which is a third of its size.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from trackside.cli.options import Duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.session.from_environment import Listed

GRACE = 30
"""Seconds: what a scheduler leaves between SIGTERM and SIGKILL, as a rule."""


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.option(
    "--tracking-uri", help="MLflow's address.  [default: MLFLOW_TRACKING_URI, else sqlite:///mlflow.db]"
)
@click.option("--experiment", metavar="NAME", help="The experiment of runs for which the program names none.")
@click.option("--name", metavar="NAME", help="The name of a run that the program does not name.")
@click.option(
    "--destination",
    "destinations",
    metavar="KIND[:OPTION=VALUE,...]",
    multiple=True,
    help="Deliver to this, too: tensorboard, jsonl:path=metrics.jsonl, or JSON.",
)
@click.option(
    "--sink",
    "sinks",
    metavar="KIND[:OPTION=VALUE,...]",
    multiple=True,
    help="Attach this sink in the training process: console, prometheus:port=9090, or JSON.",
)
@click.option(
    "--grace",
    type=Duration(),
    default=f"{GRACE}s",
    show_default=True,
    help="How long to wait for delivery after the command has ended.",
)
def run(
    *,
    command: tuple[str, ...],
    tracking_uri: str | None,
    experiment: str | None,
    name: str | None,
    destinations: tuple[str, ...],
    sinks: tuple[str, ...],
    grace: float,
) -> None:
    """Run COMMAND, and carry what it logs to MLflow as trackside does.

    COMMAND is a program that calls MLflow, or trackside, or a framework that does. You need not change it.
    Its processes find MLFLOW_TRACKING_URI=journal+<address>, and log into journals.

    The command runs as it does without trackside: signals, the terminal, its exit code or its death by a
    signal. After its end, this process waits until everything is delivered, at most --grace. Ctrl-C ends the
    wait, and `trackside sync` delivers what is left. The exit code is 127 if the command is not found, and
    126 if it can't be run.
    """
    from trackside.system.coerced_locale import drop_coerced_locale

    environment = dict(os.environ)
    drop_coerced_locale(environment)
    _choose_store(environment, tracking_uri)
    _name_runs(environment, experiment, name)
    _list(environment, "--destination", destinations)
    _list(environment, "--sink", sinks)
    _become_parent(command, environment, grace)


def _choose_store(environment: dict[str, str], given: str | None) -> None:
    """Set MLflow's address. Raises for a malformed one, before anything starts."""
    from trackside.destinations.mlflow.address import checked_address
    from trackside.settings import DEFAULT_TRACKING_URI, absolute_tracking_uri
    from trackside.system.journal_address import PREFIX, inner_address

    variable = environment.get("MLFLOW_TRACKING_URI", "").strip()
    what = "MLFLOW_TRACKING_URI" if given is None else "--tracking-uri"
    address = variable or DEFAULT_TRACKING_URI if given is None else given.strip()
    chosen = absolute_tracking_uri(checked_address(inner_address(address), what))
    if chosen.startswith(os.sep):
        chosen = f"file://{chosen}"
    environment["MLFLOW_TRACKING_URI"] = PREFIX + chosen


def _name_runs(environment: dict[str, str], experiment: str | None, name: str | None) -> None:
    from trackside.session.arguments import checked_name
    from trackside.settings import RUN_NAME_VARIABLE

    if experiment is not None:
        environment["MLFLOW_EXPERIMENT_NAME"] = checked_name("--experiment", experiment) or ""
        environment.pop("MLFLOW_EXPERIMENT_ID", None)  # MLflow takes either
    if name is not None:
        environment[RUN_NAME_VARIABLE] = checked_name("--name", name) or ""


def _list(environment: dict[str, str], option: str, given: tuple[str, ...]) -> None:
    """Add what ``option`` names to its variable. Raises for what can't work, before anything starts."""
    from trackside.session.from_environment import as_text, listed
    from trackside.settings import DESTINATIONS_VARIABLE, SINKS_VARIABLE

    variable, check = {
        "--destination": (DESTINATIONS_VARIABLE, _check_destinations),
        "--sink": (SINKS_VARIABLE, _check_sinks),
    }[option]
    known = listed(environment.get(variable), variable)
    wanted = tuple(entry for text in given for entry in listed(text, option))
    check((*known, *wanted))
    if wanted:
        environment[variable] = as_text(tuple(_unique((*known, *wanted))))


def _unique(entries: tuple[Listed, ...]) -> list[Listed]:
    found: list[Listed] = []
    for one in entries:
        if one not in found:
            found.append(one)
    return found


def _check_destinations(entries: tuple[Listed, ...]) -> None:
    from trackside.destinations.registry import is_dotted
    from trackside.session.destinations import plan_destinations

    plan_destinations(_of_ours(entries, is_dotted), 0)


def _check_sinks(entries: tuple[Listed, ...]) -> None:
    from trackside.session.sinks import plan_sinks
    from trackside.sinks.registry import is_dotted

    # Of no rank: a sink may take a port when it is made.
    plan_sinks(_of_ours(entries, is_dotted), -1).close_made()


def _of_ours(entries: tuple[Listed, ...], is_dotted: Callable[[str], bool]) -> list[Listed]:
    """Those that can be checked here. A class of yours is imported by your program, from its own path."""
    return [one for one in entries if not is_dotted(one if isinstance(one, str) else one["type"])]


def _expects_runs(environment: dict[str, str]) -> bool:
    """Whether a command that logs nothing is a surprise: not on other ranks, nor where nothing is to log."""
    from trackside.rank import get_rank
    from trackside.settings import read_environment

    return get_rank() == 0 and read_environment(environment).mode != "disabled"


def _become_parent(command: tuple[str, ...], environment: dict[str, str], grace: float) -> NoReturn:
    from trackside import parent_process

    (folder,) = parent_process.__path__
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # closed, as a daemon may have it
            stream.flush()
    # Without site and the user's PYTHON* variables, which are for the command.
    expects = "1" if _expects_runs(environment) else "0"
    arguments = [sys.executable, "-I", "-S", folder, f"{grace:g}", expects, *command]
    os.execve(sys.executable, arguments, environment)  # noqa: S606 - no shell is wanted
