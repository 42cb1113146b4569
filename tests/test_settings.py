"""Settings: what the environment says, and what is said when it says nonsense."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from pathlib import Path

import pytest

from trackside import settings as settings_
from trackside.errors import ConfigurationError
from trackside.settings import (
    VARIABLES,
    Settings,
    absolute_tracking_uri,
    mistyped_variables,
    read_environment,
)


def test_an_empty_environment_gives_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Online, with the journals in ``.trackside`` of the working directory."""
    monkeypatch.chdir(tmp_path)
    assert read_environment({}) == Settings(
        directory=tmp_path / ".trackside",
        mode="online",
        tracking_uri=None,
        experiment_name=None,
        experiment_id=None,
        run_id=None,
        start_timeout=15.0,
        exit_timeout=30.0,
        terminate_timeout=5.0,
        bulk_store=True,
        requests_in_flight=3,
    )


@pytest.mark.wheel
def test_every_variable_is_read() -> None:
    """trackside's own and MLflow's."""
    settings = read_environment(
        {
            "TRACKSIDE_DIR": "/journals",
            "TRACKSIDE_MODE": " Offline ",
            "TRACKSIDE_START_TIMEOUT": "1.5",
            "TRACKSIDE_START_WAIT": "on",
            "TRACKSIDE_EXIT_TIMEOUT": "0",
            "TRACKSIDE_TERMINATE_TIMEOUT": "2",
            "TRACKSIDE_BULK_STORE": "Off",
            "TRACKSIDE_REQUESTS_IN_FLIGHT": "5",
            "TRACKSIDE_REST_CLIENT": "no",
            "TRACKSIDE_HELD_FILES_CAP": "1.5 GB",
            "TRACKSIDE_QUIET": "yes",
            "TRACKSIDE_PYTHON": sys.executable,
            "TRACKSIDE_RUN_NAME": "baseline",
            "TRACKSIDE_SINKS": "console",
            "TRACKSIDE_DESTINATIONS": "tensorboard",
            "MLFLOW_TRACKING_URI": "http://mlflow:5000",
            "MLFLOW_EXPERIMENT_NAME": "digits",
            "MLFLOW_EXPERIMENT_ID": "7",
            "MLFLOW_RUN_ID": "abc",
        }
    )
    assert dataclasses.astuple(settings) == (
        Path("/journals"),
        "offline",
        "http://mlflow:5000",
        "digits",
        "7",
        "abc",
        1.5,
        True,
        0.0,
        2.0,
        False,
        5,
        False,
        1_500_000_000,
        True,
        os.path.abspath(sys.executable),
        "baseline",
        "console",
        "tensorboard",
    )


def test_empty_variables_count_as_not_set() -> None:
    """As a job template leaves them."""
    names = [
        "TRACKSIDE_DIR",
        "TRACKSIDE_MODE",
        "TRACKSIDE_START_TIMEOUT",
        "MLFLOW_TRACKING_URI",
        "MLFLOW_RUN_ID",
        "MLFLOW_EXPERIMENT_NAME",
        "MLFLOW_EXPERIMENT_ID",
    ]
    assert read_environment(dict.fromkeys(names, "")) == read_environment({})


def test_settings_are_frozen() -> None:
    """They stay as they are."""
    settings = read_environment({})
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.mode = "disabled"  # type: ignore[misc]


def test_a_mode_there_is_none_of() -> None:
    """The error names those there are."""
    with pytest.raises(
        ConfigurationError, match=r"'onlin' is not a mode. Use one of online, offline, disabled"
    ):
        read_environment({"TRACKSIDE_MODE": "onlin"})


@pytest.mark.parametrize("name", ["START", "EXIT", "TERMINATE"])
@pytest.mark.parametrize("text", ["soon", "-1", "nan", "inf", "15s"])
def test_a_timeout_that_is_no_number(name: str, text: str) -> None:
    """The error names the variable and what it holds."""
    with pytest.raises(
        ConfigurationError, match=f"TRACKSIDE_{name}_TIMEOUT='{text}' is not a number of seconds"
    ):
        read_environment({f"TRACKSIDE_{name}_TIMEOUT": text})


def test_a_switch_that_is_neither_on_nor_off() -> None:
    """Not guessed at."""
    with pytest.raises(
        ConfigurationError, match=r"TRACKSIDE_BULK_STORE='maybe' is not a switch. Use on or off"
    ):
        read_environment({"TRACKSIDE_BULK_STORE": "maybe"})


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1000", 1000),
        ("20 kB", 20_000),
        ("50GB", 50 * 10**9),
        ("512MiB", 512 << 20),
        ("2T", 2 * 10**12),
    ],
)
def test_a_number_of_bytes(text: str, size: int) -> None:
    """With the unit of a disk or of memory, or without one."""
    assert read_environment({"TRACKSIDE_HELD_FILES_CAP": text}).held_files_cap == size


@pytest.mark.parametrize("text", ["much", "-1", "50 GBit", "50%"])
def test_a_number_of_bytes_that_is_none(text: str) -> None:
    """Not guessed at."""
    with pytest.raises(ConfigurationError, match=r"is not a number of bytes\. Write one such as 50GB"):
        read_environment({"TRACKSIDE_HELD_FILES_CAP": text})


@pytest.mark.parametrize("text", ["0", "-1", "many", "1.5"])
def test_a_count_that_is_none(text: str) -> None:
    """At least one request must be in flight."""
    with pytest.raises(
        ConfigurationError, match=f"TRACKSIDE_REQUESTS_IN_FLIGHT='{text}' is not a whole number, 1 or more"
    ):
        read_environment({"TRACKSIDE_REQUESTS_IN_FLIGHT": text})


@pytest.mark.parametrize(
    ("given", "absolute"),
    [
        ("sqlite:///mlflow.db", "sqlite:///{here}/mlflow.db"),
        ("sqlite:///sub/mlflow.db", "sqlite:///{here}/sub/mlflow.db"),
        ("sqlite:////abs/mlflow.db", "sqlite:////abs/mlflow.db"),
        ("trackside+sqlite:///mlflow.db", "trackside+sqlite:///{here}/mlflow.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("mlruns", "{here}/mlruns"),
        ("./mlruns", "{here}/mlruns"),
        ("/abs/mlruns", "/abs/mlruns"),
        ("~/mlruns", "{home}/mlruns"),
        (Path("mlruns"), "{here}/mlruns"),
        ("file:mlruns", "file:mlruns"),
        ("file:///abs", "file:///abs"),
        ("http://mlflow:5000", "http://mlflow:5000"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("databricks", "databricks"),
        ("databricks://profile", "databricks://profile"),
        ("uc:databricks", "uc:databricks"),
    ],
)
def test_relative_addresses_are_made_absolute(
    given: str, absolute: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """``trackside sync`` may run in another directory than the training did. What is no path stays."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    expected = absolute.format(here=tmp_path, home=os.path.expanduser("~"))
    assert absolute_tracking_uri(given) == expected


def test_a_tilde_is_the_home_and_blanks_are_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A variable set in a unit file or a Dockerfile has met no shell."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/ada")
    assert read_environment({"TRACKSIDE_DIR": "~/runs"}).directory == Path("/home/ada/runs")
    assert read_environment({"TRACKSIDE_DIR": " "}).directory == tmp_path / ".trackside"
    assert read_environment({"MLFLOW_TRACKING_URI": " "}).tracking_uri is None


def test_mistyped_variables() -> None:
    """Those that are nearly ours. Our own, the shipper's and strangers are left alone."""
    fine = [*VARIABLES, "TRACKSIDE_SHIPPER_TRACKING_URI", "TRACKSIDE_PORT", "TRACKSIDE_SERVICE_HOST", "PATH"]
    assert mistyped_variables(dict.fromkeys(fine, "1")) == {}
    assert mistyped_variables({"TRACKSIDE_DIRR": "x", "TRACKSIDE_BULKSTORE": "off"}) == {
        "TRACKSIDE_DIRR": "TRACKSIDE_DIR",
        "TRACKSIDE_BULKSTORE": "TRACKSIDE_BULK_STORE",
    }


def test_every_variable_that_is_read_is_known() -> None:
    """Otherwise a warning would call a variable that is set on purpose a mistake."""
    source = Path(settings_.__file__).parent
    internal = ("TRACKSIDE_SHIPPER_", "TRACKSIDE_PARENT_")
    found = {
        name
        for path in source.rglob("*.py")
        for name in re.findall(r"\bTRACKSIDE_[A-Z_]*[A-Z]\b", path.read_text("utf-8"))
    }
    assert {name for name in found if not name.startswith(internal)} == VARIABLES


def test_an_interpreter_that_can_not_be_run() -> None:
    """Said at once, with what to give instead."""
    with pytest.raises(ConfigurationError, match="path of a Python interpreter"):
        read_environment({"TRACKSIDE_PYTHON": "/no/such/python"})
