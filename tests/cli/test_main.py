"""The command line as a whole. Each command has a test file of its own."""

from __future__ import annotations

import logging
from importlib import metadata

import click
import pytest
from click.testing import CliRunner

import trackside
from tests.support.program import run_python
from trackside.bulk_store.versions import why_unsupported
from trackside.cli.main import main
from trackside.errors import ConfigurationError

HEAVY = ("torch", "mlflow", "sklearn", "rich", "blinker", "trackside.session.start")


@pytest.fixture
def command(request):
    """Adds the test's function to the group as the command ``probe``, and takes it out again."""

    def add(function):
        main.add_command(click.command("probe")(function))
        request.addfinalizer(lambda: main.commands.pop("probe"))

    return add


def test_the_module_runs_as_a_program():
    """``python -m trackside`` is the command line, under its proper name."""
    done = run_python("-m", "trackside", "--help")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: trackside [OPTIONS] COMMAND")
    assert "demo" in done.stdout


@pytest.mark.parametrize("command", [[], *([name] for name in sorted(main.commands))])
def test_h_is_help(command: list[str]):
    """As in most programs."""
    short, long = (CliRunner().invoke(main, [*command, option]) for option in ("-h", "--help"))
    assert (short.exit_code, short.output) == (0, long.output)


def test_version_is_the_packages():
    """``--version`` says what ``trackside.__version__`` says, and which MLflow it works with."""
    done = run_python("-m", "trackside", "--version")
    assert done.stdout == f"trackside {trackside.__version__}\nMLflow {metadata.version('mlflow')}\n"


def test_version_says_that_the_bulk_store_is_off(monkeypatch):
    """With an MLflow that it does not support, and why."""
    monkeypatch.setattr(metadata, "version", lambda name: "3.999.0")
    output = CliRunner().invoke(main, ["--version"]).output
    assert f"MLflow 3.999.0. The bulk store is off: {why_unsupported('3.999.0')}\n" in output


def test_help_loads_nothing_heavy():
    """Asking for help takes neither torch nor mlflow into memory, nor the rest of trackside."""
    script = (
        "import sys\nfrom trackside.cli.main import main\n"
        "main(['demo', '--help'], standalone_mode=False)\n"
        f"print('loaded:', [name for name in {HEAVY!r} if name in sys.modules])"
    )
    assert run_python("-c", script).stdout.endswith("loaded: []\n")


def test_an_error_of_ours_is_one_line(command):
    """What trackside raises on purpose ends a command with its message and exit code 1."""

    def probe() -> None:
        raise ConfigurationError("MLFLOW_RUN_ID names no run")

    command(probe)
    result = CliRunner().invoke(main, ["probe"])
    assert (result.exit_code, result.output) == (1, "Error: MLFLOW_RUN_ID names no run\n")


def test_a_bug_keeps_its_traceback(command):
    """Any other exception is not dressed up."""

    def probe() -> None:
        raise ZeroDivisionError

    command(probe)
    assert isinstance(CliRunner().invoke(main, ["probe"]).exception, ZeroDivisionError)


def test_warnings_are_readable(command):
    """trackside's warnings come out on stderr as plain lines. Its chatter does not."""

    def probe() -> None:
        logging.getLogger("trackside.session.start").warning("the server %s is slow", "x")
        logging.getLogger("trackside.session.start").info("not shown")

    command(probe)
    result = CliRunner().invoke(main, ["probe"])
    assert (result.stdout, result.stderr) == ("", "warning: the server x is slow\n")


def test_logging_is_left_as_it_was(command):
    """A command called from a program leaves no handler behind."""
    before = list(logging.getLogger("trackside").handlers)
    command(lambda: None)
    CliRunner().invoke(main, ["probe"])
    assert logging.getLogger("trackside").handlers == before
