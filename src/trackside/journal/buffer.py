"""Where bytes are put that must outlive the process: a shared mapping, or what looks like one.

A store into a mapping needs no system call and never releases the GIL. Where a file cannot be
mapped (a file system without ``mmap``, an empty file, no address space left) it is written with
``pwrite``: slower beside busy threads, and nothing else changes.
"""

from __future__ import annotations

import errno
import os
from typing import Protocol

from trackside.system.descriptors import OwnDescriptor
from trackside.system.files import is_of_the_system, write_all
from trackside.system.mapping import map_file


class Buffer(Protocol):
    """Where a segment's bytes go: a mapping, or what looks like one."""

    def __setitem__(self, place: slice, data: bytes, /) -> None:
        """Store ``data`` at ``place``, which is as long and has no step."""

    def close(self) -> None:
        """Let go of the file; what was stored stays. A second call does nothing."""


class FileBuffer:
    """Looks like a mapping and calls ``pwrite``, for file systems that cannot map or allocate.

    The file is closed when nobody is writing to it any more: a signal handler may call ``close`` in the
    midst of a store, and the file's number may then be another file's.
    """

    def __init__(self, descriptor: int) -> None:
        self._file = OwnDescriptor(os.dup(descriptor))
        self._stores = 0
        self._closed = False

    def __setitem__(self, place: slice, data: bytes, /) -> None:
        """Store ``data``; raises ``OSError`` on a full disk, ``ValueError`` after ``close``."""
        self._stores += 1
        try:
            if self._closed:
                raise ValueError("the segment is closed")
            number = self._file.fileno()
            if number < 0:
                raise OSError(errno.EBADF, "the program has closed the journal's descriptor")
            write_all(number, data, place.start)
        finally:
            self._stores -= 1
            self._close_if_unused()

    def close(self) -> None:
        """Let go of the file; a second call does nothing."""
        self._closed = True
        self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._closed and not self._stores:
            self._file.close()


class NoBuffer:
    """Takes nothing: what a closed journal has."""

    def __setitem__(self, place: slice, data: bytes, /) -> None:
        """Refuse with ``ValueError``."""
        raise ValueError("the journal is closed")

    def close(self) -> None:
        """Do nothing."""


def open_buffer(descriptor: int, size: int) -> Buffer:
    """The first ``size`` bytes of an open file. The caller closes ``descriptor``."""
    if not size:
        return FileBuffer(descriptor)
    try:
        return map_file(descriptor, size)
    except OSError as error:
        if not is_of_the_system(error):
            raise
        return FileBuffer(descriptor)
