"""Descriptors that stay open while the user's program runs, which may close them and reuse their numbers.

A daemon closes everything from 3 on (``os.closerange(3, ...)``), and so do many children after a fork. The
next file that is opened gets the lowest number that is free.

Invariants:

* Nothing is written to or closed but what was opened here: device and inode are compared before each use.
* The numbers are high, where the files of a program that has closed everything hardly ever are. The
  system itself writes to one of them, the wakeup descriptor, and compares nothing.
* No number is that of a standard descriptor, which a program may have closed, too.
"""

from __future__ import annotations

import fcntl
import os

HIGH = 512
"""Where there is room. Below 1024, which is often the limit."""

FIRST_DESCRIPTOR = 3
"""Below are the standard descriptors."""


class OwnDescriptor:
    """An open descriptor that belongs to this object. Dropping the object closes nothing."""

    def __init__(self, descriptor: int) -> None:
        self._number = move_up(descriptor)
        self._identity = identity_of(self._number)

    def fileno(self) -> int:
        """Return its number, or -1 once it is closed, by us or by the program."""
        if self._number >= 0 and identity_of(self._number) != self._identity:
            self._number = -1
        return self._number

    def detach(self) -> int:
        """Hand the descriptor over to the caller. Return its number, or -1 if it is closed."""
        number, self._number = self.fileno(), -1
        return number

    def close(self) -> None:
        """Close it, if it is still ours. A second call does nothing."""
        number = self.detach()
        if number >= 0:
            os.close(number)


def identity_of(descriptor: int) -> tuple[int, int] | None:
    """Device and inode of what is open there, or None if nothing is."""
    try:
        found = os.fstat(descriptor)
    except OSError as error:
        if error.errno is None:  # a signal handler's TimeoutError, say, which is the caller's
            raise
        return None
    return found.st_dev, found.st_ino


def move_up(descriptor: int) -> int:
    """The same under a high number if there is room, or else at least under no standard descriptor's.

    ``descriptor`` is closed if it has moved. Raises ``OSError`` when there is no descriptor left.
    """
    if descriptor >= HIGH:
        return descriptor
    try:
        moved = _copy_above(descriptor, HIGH)
    except OSError:  # beyond the limit of this process
        if descriptor >= FIRST_DESCRIPTOR:
            return descriptor
        try:
            moved = _copy_above(descriptor, FIRST_DESCRIPTOR)
        except OSError:
            os.close(descriptor)
            raise
    os.close(descriptor)
    return moved


def _copy_above(descriptor: int, least: int) -> int:
    return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, least)
