"""Shared mappings of files that keep no descriptor open, and what stands in for one.

A store into a mapping needs no system call and never releases the GIL. Where a file can't be mapped (a file
system without ``mmap``, an empty file, no address space left) it is written with ``pwrite``. That is slower
beside busy threads, and nothing else changes.

:class:`mmap.mmap` keeps a copy of the descriptor and closes that number at its end, whatever it is by then
(from Python 3.13 on there is an option against it). So memory without a file is mapped, and the file over it.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from typing import Any, Protocol

from trackside.system.descriptors import OwnDescriptor
from trackside.system.files import is_of_the_system, write_all

_FIXED = 0x10
"""``MAP_FIXED`` of Linux (but on Alpha and PA-RISC) and macOS."""

_READ_WRITE = mmap.PROT_READ | mmap.PROT_WRITE
_FAILED = ctypes.c_void_p(-1).value


class Buffer(Protocol):
    """Where a segment's bytes go: a mapping, or what looks like one."""

    def __setitem__(self, place: slice, data: bytes, /) -> None:
        """Store ``data`` at ``place``, which is as long and has no step."""

    def close(self) -> None:
        """Let go of the file. What was stored stays. A second call does nothing."""


class FileBuffer:
    """Looks like a mapping and calls ``pwrite``, for file systems that cannot map or allocate.

    The file is closed when the last store to it has ended: a signal handler may call ``close`` in the
    midst of a store, and the file's number may then be another file's.
    """

    def __init__(self, descriptor: int) -> None:
        self._file = OwnDescriptor(os.dup(descriptor))
        self._stores = 0
        self._closed = False

    def __setitem__(self, place: slice, data: bytes, /) -> None:
        """Store ``data``. Raises ``OSError`` on a full disk, ``ValueError`` after ``close``."""
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
        """Let go of the file. A second call does nothing."""
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


def map_file(descriptor: int, size: int) -> mmap.mmap:
    """The first ``size`` bytes of a file, shared. The caller closes ``descriptor``. Raises ``OSError``."""
    place = mmap.mmap(-1, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    try:
        # The exported view ends with the expression, or the mapping could not be closed.
        map_over(ctypes.addressof(ctypes.c_char.from_buffer(place)), size, descriptor)
    except BaseException:
        place.close()
        raise
    return place


def map_over(address: int, size: int, descriptor: int) -> None:
    """Map the file over what is at ``address``. If this raises ``OSError``, nothing may be mapped there."""
    _map(address, size, mmap.MAP_SHARED | _FIXED, descriptor)


def map_memory(size: int, address: int | None = None) -> int:
    """The address of ``size`` bytes of memory, in place of what is mapped at ``address`` if that is given.

    Raises ``OSError``.
    """
    fixed = 0 if address is None else _FIXED
    return _map(address, size, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | fixed, -1)


def _map(address: int | None, size: int, flags: int, descriptor: int) -> int:
    found = _function()(address, size, _READ_WRITE, flags, descriptor, 0)
    if found in {None, _FAILED}:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return int(found)


def _function() -> Any:
    global _mmap  # noqa: PLW0603 - looked up once
    if _mmap is None:
        function = ctypes.CDLL(None, use_errno=True).mmap
        function.restype = ctypes.c_void_p
        function.argtypes = (
            ctypes.c_void_p,
            ctypes.c_size_t,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_int,
            ctypes.c_long,
        )
        _mmap = function
    return _mmap


_mmap: Any = None
