"""One shipper a journal: the lock, and asking whether a process holds it."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from trackside.journal.lock import JournalLock, is_locked

if TYPE_CHECKING:
    from pathlib import Path

HOLDER = """
import sys
from pathlib import Path
from trackside.journal.lock import JournalLock
print(JournalLock(Path(sys.argv[1])).acquire(), flush=True)
sys.stdin.read()
"""


def test_one_at_a_time(tmp_path: Path) -> None:
    """The second one is refused until the first lets go; asking does not take it."""
    path = tmp_path / "lock"
    first, second = JournalLock(path), JournalLock(path)
    assert not is_locked(path)
    assert not path.exists(), "asking makes no file"
    assert first.acquire()
    assert not second.acquire()
    assert is_locked(path)
    first.release()
    first.release()
    assert not is_locked(path)
    assert second.acquire()
    second.release()


def test_it_dies_with_its_holder(tmp_path: Path) -> None:
    """However it ends: nobody has to clean up after a SIGKILL."""
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLDER, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "True\n"
        assert is_locked(path)
        holder.kill()
    assert not is_locked(path)
    lock = JournalLock(path)
    assert lock.acquire()
    lock.release()


def test_a_journal_that_is_gone(tmp_path: Path) -> None:
    """Nobody is at work on it, and there is nothing to lock."""
    path = tmp_path / "gone" / "lock"
    assert not is_locked(path)
    with pytest.raises(FileNotFoundError):
        JournalLock(path).acquire()


def test_a_patient_one_waits_for_its_turn(tmp_path: Path) -> None:
    """Somebody who only asks has the lock for a moment; a shipper must not leave because of that."""
    path = tmp_path / "lock"
    first, second = JournalLock(path), JournalLock(path)
    assert first.acquire()
    timer = threading.Timer(0.05, first.release)
    timer.start()
    assert second.acquire(patience=30.0)
    timer.join()
    assert not first.acquire(patience=0.01)
    second.release()


def test_those_who_ask_do_not_see_each_other(tmp_path: Path) -> None:
    """Two ``trackside status`` at once find no shipper where there is none."""
    path = tmp_path / "lock"
    path.touch()
    wrong: list[bool] = []

    def ask() -> None:
        wrong.extend(True for _ in range(500) if is_locked(path))

    threads = [threading.Thread(target=ask) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
