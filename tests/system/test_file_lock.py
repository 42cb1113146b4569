"""A lock on a file: one holder at a time, also where each holder removes the file."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

import pytest

from trackside.system.file_lock import FileLock

if TYPE_CHECKING:
    from pathlib import Path


def test_a_waiter_for_a_removed_file_begins_again(tmp_path: Path) -> None:
    """Else two would hold the lock at once: one of the file that is gone, one of the new one."""
    path = tmp_path / "lock"
    waited = os.open(path, os.O_RDONLY | os.O_CREAT)
    first, second = FileLock(path, temporary=True), FileLock(path, temporary=True)
    assert first.acquire()
    assert not second.acquire()
    first.release()
    assert not path.exists()
    fcntl.flock(waited, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert second.acquire()
    second.release()
    os.close(waited)


def test_a_lock_of_a_removed_file_is_not_taken(tmp_path: Path) -> None:
    """The file is removed between the moment it is opened and the moment it is locked."""
    path = tmp_path / "lock"

    def open_and_lose(at: Path) -> int:
        descriptor = os.open(at, os.O_RDONLY | os.O_CREAT)
        os.unlink(at)
        return descriptor

    assert not FileLock(path, open_file=open_and_lose).acquire()


def test_a_file_that_a_killed_process_left_is_taken_over(tmp_path: Path) -> None:
    """The lock died with its holder, whether or not the file did."""
    path = tmp_path / "lock"
    path.touch()
    lock = FileLock(path, temporary=True)
    assert lock.acquire()
    lock.release()
    lock.release()
    assert not path.exists()


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """It may lead to a file of the user's."""
    path = tmp_path / "lock"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="lock"):
        FileLock(path).acquire()
    assert not (tmp_path / "elsewhere").exists()
