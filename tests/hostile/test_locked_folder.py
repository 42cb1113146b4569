"""``flock . python train.py``: what the user has locked for the training does not keep the shipper out."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from trackside.destinations.mlflow.address import alone_with
from trackside.destinations.mlflow.passing_lock import PassingLock

if TYPE_CHECKING:
    from pathlib import Path


def test_the_folder_and_the_database_are_locked(tmp_path: Path, monkeypatch) -> None:
    """The database is opened at once, and nothing stays in its folder."""
    database = tmp_path / "mlflow.db"
    database.touch()
    monkeypatch.setattr("trackside.destinations.mlflow.address.LOCK_TIMEOUT", 0.0)
    held = [os.open(path, os.O_RDONLY) for path in (tmp_path, database)]
    for descriptor in held:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with alone_with(f"sqlite:///{database}"):
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [database]
    for descriptor in held:
        os.close(descriptor)


def test_who_waited_for_a_removed_file_begins_again(tmp_path: Path) -> None:
    """Else two would hold the lock at once: one of the file that is gone, one of the new one."""
    path = tmp_path / "lock"
    waited = os.open(path, os.O_RDONLY | os.O_CREAT)
    first, second = PassingLock(str(path)), PassingLock(str(path))
    assert first.acquire(0)
    assert not second.acquire(0)
    first.release()
    assert not path.exists()
    fcntl.flock(waited, fcntl.LOCK_EX | fcntl.LOCK_NB)
    assert second.acquire(0)
    second.release()
    os.close(waited)


def test_a_file_that_a_killed_process_left_or_a_link(tmp_path: Path) -> None:
    """The one is taken over. The other locks nothing, and is not followed."""
    path, elsewhere = tmp_path / "lock", tmp_path / "elsewhere"
    path.touch()
    lock = PassingLock(str(path))
    assert lock.acquire(0)
    lock.release()
    path.symlink_to(elsewhere)
    assert lock.acquire(0)
    lock.release()
    assert not elsewhere.exists()
