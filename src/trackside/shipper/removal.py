"""The end of a journal: removed once it is delivered, or removed by others under its shipper.

The latter is reported, although the log is gone, too. A folder of the same name is another one: a test's
temporary folder may be removed and made again.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import syslog
from typing import TYPE_CHECKING

from trackside.shipper.unread import remove_unread

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory

logger = logging.getLogger("trackside.shipper")

_GONE = {errno.ENOENT, errno.ENOTDIR, errno.ESTALE}


class Presence:
    """Whether the folder that ``path`` names now is still there."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first: tuple[int, int] | None = None
        with contextlib.suppress(OSError):
            self._first = _identity(path)

    def is_gone(self) -> bool:
        """Whether it was removed. An error of the disk does not say so."""
        try:
            return self._first is not None and _identity(self._path) != self._first
        except OSError:
            return False


def remove_delivered(journal: JournalDirectory, is_read: Callable[[], bool]) -> None:
    """Remove ``journal``, but keep the proof of delivery unless the trainer has read it, or never will.

    ``is_read()`` is asked again once the proof is there: a trainer that reads it later also removes it.
    """
    if not is_read():
        with contextlib.suppress(OSError):
            journal.mark_delivered()
    if is_read() or not journal.delivered.exists():
        journal.remove()
    remove_unread(journal.path.parent)


def say_lost(journal: Path, reason: str) -> None:
    """Say in the system's log that what ``journal`` still held is lost."""
    text = f"trackside: the journal {journal} was removed before everything in it was delivered: {reason}"
    logger.error("%s", text)
    syslog.syslog(syslog.LOG_USER | syslog.LOG_WARNING, text.encode(errors="backslashreplace").decode())


def _identity(path: Path) -> tuple[int, int] | None:
    """Device and inode, or None where there is nothing. Raises ``OSError`` when that can't be told."""
    try:
        found = os.stat(path)
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise
    return found.st_dev, found.st_ino
