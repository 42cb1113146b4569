"""What the parent notes of an end, and what a shipper makes of it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trackside.journal.directory import JournalDirectory
from trackside.journal.owner import Owner, boot_id, this_process
from trackside.lifecycle.evidence import UNKNOWN, ExitStatus
from trackside.shipper.told_by_parent import told_by_parent, will_be_told
from trackside.shipper.trainer import DeathWatch
from trackside.system.parent_folder import (
    make_parent_folder,
    note_end,
    parse_end,
    register_journal,
    registered_journals,
    remove_parent_folder,
)
from trackside.system.processes import parent_of_zombie, start_ticks

if TYPE_CHECKING:
    from pathlib import Path


def test_a_registered_journal(folder: str, tmp_path: Path) -> None:
    """By name, with the process that writes it. Another parent's folder within is looked through, too."""
    inner = make_parent_folder([folder])
    assert inner is not None
    register_journal(folder, str(tmp_path / "one"))
    register_journal(inner, str(tmp_path / "two"))
    found = registered_journals(folder)
    assert [(one.journal, one.pid, one.folder) for one in found] == [
        (str(tmp_path / "one"), os.getpid(), folder),
        (str(tmp_path / "two"), os.getpid(), inner),
    ]
    assert registered_journals(folder, pid=1) == []
    remove_parent_folder(folder)
    assert not os.path.exists(folder)
    with pytest.raises(FileNotFoundError):
        register_journal(folder, "late")


@pytest.fixture
def journal(tmp_path: Path) -> JournalDirectory:
    """A journal's folder."""
    path = tmp_path / "journal"
    path.mkdir(mode=0o700)
    return JournalDirectory(path)


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ({"exit_code": 3, "killed_by": None}, ExitStatus(exit_code=3)),
        ({"exit_code": None, "killed_by": 9}, ExitStatus(killed_by=9)),
        ({"exit_code": 0, "killed_by": None}, ExitStatus(exit_code=0)),
    ],
)
def test_an_end_is_told(
    folder: str, journal: JournalDirectory, status: dict[str, int | None], ended: ExitStatus
) -> None:
    """In the journals that the process has registered. One that is delivered already has no note."""
    me = this_process()
    note_end(folder, me.pid, **status)
    assert told_by_parent(journal.wait_status, me) == UNKNOWN, "a process without a journal leaves no note"
    register_journal(folder, str(journal.path))
    register_journal(folder, f"{journal.path}-gone")
    note_end(folder, me.pid, **status)
    assert told_by_parent(journal.wait_status, me) == ended


def test_a_note_of_another_process(journal: JournalDirectory) -> None:
    """One that had the same number before."""
    journal.wait_status.write_text(f"{(start_ticks(os.getpid()) or 5) - 1} 3 -")
    if start_ticks(os.getpid()) is not None:
        assert told_by_parent(journal.wait_status, this_process()) == UNKNOWN


@pytest.mark.parametrize("text", ["", "1 2", "1 x -", "1 -3 -", "1 2 3 4", "\0" * 9])
def test_a_damaged_note(text: str) -> None:
    """It says nothing."""
    assert parse_end(text, 1) == (None, None)


def test_a_note_that_others_may_have_written(folder: str, journal: JournalDirectory) -> None:
    """It does not count."""
    register_journal(folder, str(journal.path))
    note_end(folder, os.getpid(), exit_code=3, killed_by=None)
    journal.wait_status.chmod(0o666)
    assert told_by_parent(journal.wait_status, this_process()) == UNKNOWN


@pytest.mark.skipif(start_ticks(1) is None, reason="needs Linux")
def test_a_shipper_waits_for_its_parents_word(
    folder: str, journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the kernel tells nothing. A zombie whose parent is another process is not waited for."""
    monkeypatch.setattr(DeathWatch, "_ask_kernel", lambda _self: UNKNOWN)
    with subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE
    ) as child:
        owner = Owner(socket.gethostname(), child.pid, 0.0, boot_id(), start_ticks(child.pid))
        assert not will_be_told(owner)
        watch = DeathWatch(owner, journal.wait_status)
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert parent_of_zombie(child.pid) == os.getpid()
        assert will_be_told(owner)
        assert watch.is_dead()
        with open(os.path.join(folder, f"journal-{child.pid}-x"), "w", encoding="utf-8") as file:
            file.write(f"\n{journal.path}\n")
        note_end(folder, child.pid, exit_code=None, killed_by=9)
        assert watch.exit_status(patience=30.0) == ExitStatus(killed_by=9)
        child.wait()
        assert not will_be_told(owner)
        assert watch.exit_status() == ExitStatus(killed_by=9)
    journal.wait_status.unlink()
    assert watch.exit_status(patience=0.01) == UNKNOWN
