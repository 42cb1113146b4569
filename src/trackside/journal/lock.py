"""One shipper a journal: a lock on a file in it, which ends with its holder."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trackside.journal.opening import open_own
from trackside.system.file_lock import FileLock, is_held

if TYPE_CHECKING:
    from pathlib import Path


class JournalLock(FileLock):
    """Held from :meth:`acquire` until :meth:`release`, or until the process ends.

    Acquire it with some patience: :func:`is_locked` has the lock for a moment, too.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, open_file=lambda path: open_own(path, os.O_RDWR | os.O_CREAT))


def is_locked(path: Path) -> bool:
    """Whether a shipper is at work on the journal now."""
    try:
        descriptor = open_own(path, os.O_RDONLY)
    except OSError:
        return False
    try:
        return is_held(descriptor)
    finally:
        os.close(descriptor)
