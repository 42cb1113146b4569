"""A lock on a file of its own, which is gone once nobody holds it.

What the user may have locked is of no use: ``flock . python train.py`` holds the folder for as long as the
training runs, and ``flock mlflow.db`` the database. So the lock is a file that only we know, beside them.

Invariant: whoever holds the lock holds the file that the name stands for. A holder removes the file before it
lets go, so one that has waited for a removed file begins again.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

_POLL = 0.1
_FLAGS = os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
_MODE = 0o644
"""Other users' jobs may open the same database, and to read the file is enough to lock it."""


class PassingLock:
    """The lock ``path``; nothing is locked where the file system or the folder's rights allow none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._descriptor: int | None = None

    def acquire(self, timeout: float) -> bool:
        """Take the lock; False if another process has it for ``timeout`` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                if self._try():
                    return True
            except BlockingIOError:
                pass
            except OSError:
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL)

    def release(self) -> None:
        """Let the next one in."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):  # somebody else's, in a folder with the sticky bit
                os.unlink(self._path)
            os.close(descriptor)

    def _try(self) -> bool:
        descriptor = os.open(self._path, _FLAGS, _MODE)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(descriptor, self._path):  # the last holder has removed it
                os.close(descriptor)
                return False
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return True


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except OSError:
        return False
