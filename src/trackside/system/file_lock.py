"""One process at a time: an advisory lock on a file, which ends with its holder, however the holder ends.

Invariant: a holder has locked the file that the path names. A process that waited for a file which the last
holder removed begins again with the new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_POLL = 0.05
_FLAGS = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MODE = 0o644
"""Other users' jobs may open the same file, and to read it is enough to lock it."""


def _open(path: Path) -> int:
    return os.open(path, _FLAGS, _MODE)


class FileLock:
    """The lock on the file ``path``.

    ``open_file`` opens the file, and makes it where it is missing. Release removes a ``temporary`` one.
    """

    def __init__(
        self, path: Path, *, open_file: Callable[[Path], int] = _open, temporary: bool = False
    ) -> None:
        self._path = path
        self._open_file = open_file
        self._temporary = temporary
        self._descriptor: int | None = None

    def acquire(self, *, patience: float = 0.0) -> bool:
        """Take the lock. Returns False if another process holds it for ``patience`` seconds.

        Raises ``OSError`` where the file can't be opened or locked.
        """
        deadline = time.monotonic() + patience
        while not self._try():
            if time.monotonic() >= deadline:
                return False
            time.sleep(_POLL)
        return True

    def release(self) -> None:
        """Let the next process in. A second call does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            if self._temporary:
                with contextlib.suppress(OSError):  # another user's, in a folder with the sticky bit
                    os.unlink(self._path)
            os.close(descriptor)

    def _try(self) -> bool:
        descriptor = self._open_file(self._path)
        try:
            if _lock(descriptor, fcntl.LOCK_EX) and _is_at(descriptor, self._path):
                self._descriptor, descriptor = descriptor, -1
                return True
            return False
        finally:
            if descriptor >= 0:
                os.close(descriptor)


def is_held(descriptor: int) -> bool:
    """Whether another process holds the lock on the open file ``descriptor``.

    It tries to share the lock, so two processes that ask at once do not take each other for the holder.
    """
    return not _lock(descriptor, fcntl.LOCK_SH)


def _lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except OSError:
        return False
