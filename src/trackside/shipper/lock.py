"""One shipper a journal: an advisory lock on a file in it, which dies with its holder."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from trackside.journal.directory import FILE_MODE

if TYPE_CHECKING:
    from pathlib import Path


class JournalLock:
    """Held from :meth:`acquire` until the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self) -> bool:
        """Take the lock; False when another shipper has it. Raises ``OSError`` if the journal is gone."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, FILE_MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let the next one in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_locked(path: Path) -> bool:
    """Whether a shipper is at work on the journal now."""
    if not path.exists():
        return False
    lock = JournalLock(path)
    try:
        if not lock.acquire():
            return True
    except OSError:
        return False
    lock.release()
    return False
