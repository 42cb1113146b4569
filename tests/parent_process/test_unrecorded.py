"""What is told of runs that went past trackside, and of a command that logs nothing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.parent_process.family import TRAIN, Family
from trackside.parent_process.unrecorded import tell_of_unrecorded
from trackside.system.parent_folder import DirectAddress, note_direct, note_use

if TYPE_CHECKING:
    from pathlib import Path

DIRECT = DirectAddress("http://other:5000", "journal+http://other:5000")


def told(capfd: pytest.CaptureFixture[str], folder: str, status: int = 0, *, expects: bool = True) -> str:
    """What the parent writes to stderr."""
    tell_of_unrecorded(folder, status, expects_runs=expects)
    return capfd.readouterr().err


@pytest.fixture(autouse=True)
def _not_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TRACKSIDE_QUIET", raising=False)


def test_a_command_that_logs_nothing(folder: str, capfd: pytest.CaptureFixture[str]) -> None:
    """One plain line, if it ended well and a run may have been meant."""
    assert told(capfd, folder) == (
        "trackside: nothing was logged through trackside. "
        "If your program gives MLflow an address of its own, write journal+ before it\n"
    )
    assert told(capfd, folder, 256) == told(capfd, folder, 9) == told(capfd, folder, expects=False) == ""


def test_quiet(folder: str, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """``TRACKSIDE_QUIET`` takes the line away, and leaves the warning."""
    monkeypatch.setenv("TRACKSIDE_QUIET", "on")
    assert told(capfd, folder) == ""
    note_direct(folder, DIRECT)
    assert told(capfd, folder) != ""


def test_a_command_that_uses_trackside(folder: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing is said."""
    note_use(folder)
    assert told(capfd, folder) == ""


def test_addresses_of_a_program(folder: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Each is told once, however the command ended, and whatever else went through trackside."""
    note_use(folder)
    for _ in range(2):
        note_direct(folder, DIRECT)
    note_direct(folder, DirectAddress("databricks", ""))
    why = "directly and not through trackside, because the program or a script around it sets this address"
    assert told(capfd, folder, 9, expects=False).splitlines() == [
        f"trackside: runs went to http://other:5000 {why}. Remove it there, or write {DIRECT.better}",
        f"trackside: runs went to databricks {why}. Remove it there",
    ]


OWN_ADDRESS = """
import mlflow
mlflow.set_tracking_uri("sqlite:///own.db")
with mlflow.start_run():
    mlflow.log_metric("loss", 1.0)
with mlflow.start_run():
    mlflow.log_metric("loss", 2.0)
"""


@pytest.mark.process
def test_a_program_that_names_its_address(family: Family) -> None:
    """It is warned as its first run begins, and again at the end. The runs are where it wants them."""
    better = f"write journal+sqlite:///{family.place}/own.db"
    process = family.python(OWN_ADDRESS)
    _, errors = process.communicate(timeout=280)
    assert process.returncode == 0
    lines = [line for line in errors.splitlines() if "sqlite:///own.db directly and not" in line]
    assert [line.partition(" to ")[0] for line in lines] == ["a run goes", "trackside: runs went"]
    assert all(line.endswith(better) for line in lines)
    assert len(MlflowClient(f"sqlite:///{family.place}/own.db").search_runs(["0"])) == 2
    assert family.left() == []


@pytest.mark.process
def test_a_command_around_a_training(family: Family) -> None:
    """A ``trackside run`` under another one: neither says that nothing was logged."""
    inner = [sys.executable, "-m", "trackside", "run", "--", sys.executable, family.script(TRAIN)]
    process = family.start(*inner)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "nothing was logged" not in errors


@pytest.mark.process
def test_offline(family: Family, tmp_path: Path) -> None:
    """A run that only has a journal yet was logged."""
    process = family.python(TRAIN, env={"TRACKSIDE_MODE": "offline"})
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "nothing was logged" not in errors
    assert list(tmp_path.glob("journals/*"))
