"""Journals that another user may not read, or may not write: what ``status`` and ``sync`` say of them."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from tests.support.journals import ALIVE, make
from trackside.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65_534


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What the commands import on first use is imported: the other user may not read this project."""
    make(tmp_path_factory.mktemp("live"), ALIVE)
    for command in ("status", "sync"):
        CliRunner().invoke(main, [command, "--dir", str(tmp_path_factory.getbasetemp() / "live0")])


@pytest.fixture
def folder(imported: None) -> Iterator[Path]:
    """A folder of journals, in a place that everybody can reach."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    made = place / "journals"
    made.mkdir(mode=0o755)
    yield made
    for path in (made, *made.iterdir()) if os.access(made, os.R_OK) else (made,):
        path.chmod(0o700)
    shutil.rmtree(place)


@contextlib.contextmanager
def another_user(path: Path, mode: int) -> Iterator[None]:
    """Be a user whose rights to ``path`` are those of ``mode`` for others.

    Root changes its user for the block. Anybody else takes the rights away from itself.
    """
    if os.geteuid():
        path.chmod(mode << 6)
        yield
        return
    path.chmod(0o700 | mode)
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("command", ["status", "sync"])
def test_a_journal_that_may_not_be_read_is_shown(folder: Path, command: str) -> None:
    """It may hold points that wait: nothing says that everything is delivered."""
    journal = make(folder, points=10)
    with another_user(journal.path, 0):
        result = CliRunner().invoke(main, [command, "--dir", str(folder)])
    assert result.exit_code == 1
    told = " ".join(result.output.split())
    assert "untrusted" in told or "unreadable" in told
    assert ("ou may not read it: only its owner can deliver it" in told) == (os.geteuid() == 0)
    assert "othing" not in result.output


@pytest.mark.parametrize("command", ["status", "sync"])
def test_a_folder_that_may_not_be_read_is_an_error(folder: Path, command: str) -> None:
    """It looks empty, and is not known to be."""
    make(folder, points=10)
    with another_user(folder, 0):
        result = CliRunner().invoke(main, [command, "--dir", str(folder)])
    assert result.exit_code == 1
    assert f"{folder} can't be read (Permission denied)" in result.output
    assert "othing" not in result.output


def test_a_journal_that_may_not_be_written_is_not_busy(folder: Path) -> None:
    """No shipper can lock it, which is not because another one has it."""
    journal = make(folder, points=10)
    if not os.geteuid():  # nothing is read-only for root
        for path in (journal.path, *journal.path.iterdir()):
            os.chown(path, NOBODY, NOBODY)
    with another_user(journal.path, 0o5):
        journal.path.chmod(0o500)
        result = CliRunner().invoke(main, ["sync", "--dir", str(folder)])
    assert result.exit_code == 1
    assert "unfinished (it is read-only" in result.output
