"""One shipper a journal: an advisory lock on a file in it, which dies with its holder."""

from __future__ import annotations

import fcntl
import os
import time
from typing import TYPE_CHECKING

from trackside.journal.opening import open_own

if TYPE_CHECKING:
    from pathlib import Path


_POLL = 0.02


class JournalLock:
    """Held from :meth:`acquire` until the process ends, however it ends."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, *, patience: float = 0.0) -> bool:
        """Take the lock; False when another shipper has it. Raises ``OSError`` if the journal is gone.

        ``patience``: seconds to go on trying. :func:`is_locked` has the lock for a moment, too.
        """
        descriptor = open_own(self._path, os.O_RDWR | os.O_CREAT)
        deadline = time.monotonic() + patience
        while not _try(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= deadline:
                os.close(descriptor)
                return False
            time.sleep(_POLL)
        self._descriptor = descriptor
        return True

    def release(self) -> None:
        """Let the next one in."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None


def is_locked(path: Path) -> bool:
    """Whether a shipper is at work on the journal now."""
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return not _try(descriptor, fcntl.LOCK_SH)  # shared: two who only ask do not see each other
    finally:
        os.close(descriptor)


def _try(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
