"""Reading bytes of a segment, whatever state its disk is in.

Files are read with ``pread``, never mapped: a file that another process cuts must not raise SIGBUS here, and
a block the disk can't read costs what is in it.
"""

from __future__ import annotations

import errno
import os
import platform

STRONG_ORDER = platform.machine().lower() in {"x86_64", "amd64", "i386", "i686"}
"""Whether the stores of one processor become visible to the others in their order."""

_BLOCK = 4096


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """``size`` bytes from ``offset`` on, or as many as the file has. Zeros stand for what can't be read."""
    try:
        return os.pread(descriptor, size, offset)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return _read_around_bad_blocks(descriptor, size, offset)


def is_empty(data: bytes) -> bool:
    """Whether there are only zeros in ``data``."""
    return data == bytes(len(data))


def _read_around_bad_blocks(descriptor: int, size: int, offset: int) -> bytes:
    size = min(size, os.fstat(descriptor).st_size - offset)
    blocks = bytearray()
    while len(blocks) < size:
        start = offset + len(blocks)
        length = min(_BLOCK - start % _BLOCK, size - len(blocks))
        try:
            blocks += os.pread(descriptor, length, start).ljust(length, b"\0")
        except OSError:
            blocks += bytes(length)
    return bytes(blocks)
