"""``flock . python train.py``: what the user has locked for the training does not keep the shipper out."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from trackside.destinations.mlflow.database import alone_with

if TYPE_CHECKING:
    from pathlib import Path


def test_the_folder_and_the_database_are_locked(tmp_path: Path, monkeypatch) -> None:
    """The database is opened at once, and nothing stays in its folder."""
    database = tmp_path / "mlflow.db"
    database.touch()
    monkeypatch.setattr("trackside.destinations.mlflow.database.LOCK_TIMEOUT", 0.0)
    held = [os.open(path, os.O_RDONLY) for path in (tmp_path, database)]
    for descriptor in held:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    with alone_with(f"sqlite:///{database}"):
        assert len(list(tmp_path.iterdir())) == 2
    assert list(tmp_path.iterdir()) == [database]
    for descriptor in held:
        os.close(descriptor)


def test_a_link_in_place_of_the_lock_is_not_followed(tmp_path: Path) -> None:
    """The database is opened without a lock then, and the link stays."""
    database, elsewhere = tmp_path / "mlflow.db", tmp_path / "elsewhere"
    link = tmp_path / ".mlflow.db.trackside-opening"
    link.symlink_to(elsewhere)
    with alone_with(f"sqlite:///{database}"):
        assert not elsewhere.exists()
    assert link.is_symlink()
