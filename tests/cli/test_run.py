"""``trackside run``: what its options become for the command, and what they refuse before anything starts."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from trackside.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


class StartedError(Exception):
    """In place of ``exec``."""


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    """What ``exec`` was called with."""
    found: dict[str, Any] = {}

    def execve(_path: str, arguments: list[str], environment: dict[str, str]) -> None:
        found.update(grace=arguments[4], expects=arguments[5], command=arguments[6:], environment=environment)
        raise StartedError

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.chdir(tmp_path)
    return found


def run(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["run", *arguments])


def refused(*arguments: str) -> str:
    """The error of a command that must not start."""
    result = run(*arguments)
    assert result.exit_code in {1, 2}, result.output
    return result.output


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        (["--", "python", "train.py"], ["python", "train.py"]),
        (["python", "train.py", "--name", "x", "--", "y"], ["python", "train.py", "--name", "x", "--", "y"]),
        (["--grace", "2m", "torchrun", "--nproc-per-node", "2"], ["torchrun", "--nproc-per-node", "2"]),
        (["--", "--odd"], ["--odd"]),
    ],
)
def test_where_the_command_begins(started: dict[str, Any], arguments: list[str], command: list[str]) -> None:
    """At ``--``, or at the first word that is no option of ours. What follows is the command's own."""
    run(*arguments)
    assert started["command"] == command
    assert started["grace"] == ("120" if "--grace" in arguments[:1] else "30")


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ((None, None), "journal+sqlite:///{here}/mlflow.db"),
        (("http://mlflow:5000", None), "journal+http://mlflow:5000"),
        (("journal+http://mlflow:5000", None), "journal+http://mlflow:5000"),
        (("http://mlflow:5000", "https://other"), "journal+https://other"),
        ((None, "journal+sqlite:///runs.db"), "journal+sqlite:///{here}/runs.db"),
        ((None, "./runs"), "journal+file://{here}/runs"),
        ((None, "postgresql://me:pw@host/name"), "journal+postgresql://me:pw@host/name"),
    ],
)
def test_the_address(
    started: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    given: tuple[str | None, str | None],
    address: str,
) -> None:
    """The option, else the variable, else the default. Absolute, because a program may change its folder."""
    variable, option = given
    if variable is not None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", variable)
    run(*([] if option is None else ["--tracking-uri", option]), "true")
    assert started["environment"]["MLFLOW_TRACKING_URI"] == address.format(here=tmp_path)


@pytest.mark.parametrize(
    ("variables", "expects"),
    [({}, "1"), ({"RANK": "0"}, "1"), ({"RANK": "1"}, "0"), ({"TRACKSIDE_MODE": "disabled"}, "0")],
)
def test_where_a_command_that_logs_nothing_is_a_surprise(
    started: dict[str, Any], monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expects: str
) -> None:
    """Not on other ranks, and not in disabled mode."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    run("true")
    assert started["expects"] == expects


def test_names(started: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiment's name takes the place of an id. Without an option, the variables stay."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")
    run("true")
    assert started["environment"]["MLFLOW_EXPERIMENT_ID"] == "7"
    run("--experiment", "digits", "--name", "baseline", "true")
    assert "MLFLOW_EXPERIMENT_ID" not in started["environment"]
    assert started["environment"]["MLFLOW_EXPERIMENT_NAME"] == "digits"
    assert started["environment"]["TRACKSIDE_RUN_NAME"] == "baseline"


def test_sinks_and_destinations(started: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """They join what the variables name. What is there already is not added again."""
    monkeypatch.setenv("TRACKSIDE_DESTINATIONS", "jsonl:path=a.jsonl")
    mapping = '{"type": "jsonl", "path": "b.jsonl", "transform": {"every_n_steps": 10}}'
    run(
        *("--destination", "jsonl:path=a.jsonl", "--destination", mapping),
        *("--sink", "console", "--sink", "my_package.sinks:Mine:level=3"),
        "true",
    )
    environment = started["environment"]
    assert json.loads(environment["TRACKSIDE_DESTINATIONS"]) == [
        {"type": "jsonl", "path": "a.jsonl"},
        json.loads(mapping),
    ]
    assert json.loads(environment["TRACKSIDE_SINKS"]) == [
        "console",
        {"type": "my_package.sinks:Mine", "level": 3},
    ]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "Missing argument 'COMMAND...'"),
        (["--nmae", "x", "true"], "No such option"),
        (["--tracking-uri", "localhost:5000", "true"], "Write http://localhost:5000"),
        (["--tracking-uri", "htps://mlflow.example.org", "true"], "unknown scheme"),
        (["--tracking-uri", "journal+", "true"], "empty"),
        (["--destination", "tensorbord", "true"], "did you mean 'tensorboard'"),
        (["--destination", "jsonl:pth=x", "true"], "did you mean 'path'"),
        (["--sink", "consol", "true"], "did you mean 'console'"),
        (["--sink", '{"type": "console"', "true"], "is not JSON"),
        (["--experiment", " ", "true"], "--experiment is empty"),
        (["--grace", "soon", "true"], "is not a duration"),
    ],
)
def test_what_is_refused(started: dict[str, Any], arguments: list[str], why: str) -> None:
    """Before anything starts, with what to write instead."""
    assert why in refused(*arguments)
    assert not started


def test_a_malformed_variable(started: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named in the error."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "mlflow.example.org")
    assert "MLFLOW_TRACKING_URI 'mlflow.example.org' has no scheme" in refused("true")
    assert not started
