"""Plays a program twice in fresh stores: as it is, and with ``journal+`` in the variable and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.ends.harness import new_database, wait_until_delivered
from tests.unchanged.pages import pages_of

if TYPE_CHECKING:
    from collections.abc import Mapping

PROGRAMS = Path(__file__).parent / "programs"
TIMEOUT = 280.0


@dataclass
class Played:
    """What came of a program: its exit code, what it said, and what MLflow shows."""

    code: int
    said: str
    errors: str
    pages: dict[str, Any]


def play(program: str, folder: Path, prefix: str, uri: str = "", **environment: str) -> Played:
    """Play ``program`` in ``folder``. ``uri``: the store, else a fresh one of the folder's own."""
    folder.mkdir()
    store = uri or new_database(folder)
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / f"{program}.py")],
        cwd=folder,
        env=environment_of(folder, f"{prefix}{store}", environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    if prefix:
        wait_until_delivered(folder / "journals", 120)
    here = os.getcwd()
    os.chdir(folder)  # where the store's files are
    try:
        return Played(done.returncode, done.stdout, done.stderr, pages_of(store, folder / "read back"))
    finally:
        os.chdir(here)


def environment_of(folder: Path, address: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """The variables of a program."""
    return {
        **os.environ,
        "MLFLOW_TRACKING_URI": address,
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        "TRACKSIDE_DIR": str(folder / "journals"),
        "TRACKSIDE_EXIT_TIMEOUT": "120",
        "CUDA_VISIBLE_DEVICES": "",
        **(more or {}),
    }


def assert_same(program: str, folder: Path, **environment: str) -> Played:
    """Play the program both ways, in fresh databases. Returns the play with ``journal+``."""
    stock = play(program, folder / "stock", "", **environment)
    ours = play(program, folder / "ours", "journal+", **environment)
    assert_alike(stock, ours)
    return ours


def assert_alike(stock: Played, ours: Played) -> None:
    """Both ended well, said the same, and left the same pages."""
    assert stock.code == 0, stock.errors
    assert ours.code == 0, ours.errors
    assert ours.said.splitlines() == stock.said.splitlines()
    assert ours.said == stock.said, ours.errors
    assert ours.pages == stock.pages, ours.errors
