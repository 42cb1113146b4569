"""One preallocated segment file, open for writing.

A segment gets its disk blocks when it is made (``posix_fallocate``), because a store into a sparse
mapping raises SIGBUS on a full disk, and a signal in the training process is what must never
happen. It appears under its name whole (made under another name, then linked), so that any thread
of the trainer and the shipper may all try to make the next one: the first wins and the others use
it.

Where the file system cannot allocate, a segment is made empty and grows as it is written
(``pwrite``).
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from trackside.journal.buffer import Buffer, open_buffer
from trackside.journal.files import (
    FILE_MODE,
    is_disk_full,
    is_of_the_system,
    make_private_directory,
    temporary_beside,
    write_all,
)

if TYPE_CHECKING:
    from pathlib import Path

LIFECYCLE_RESERVE = 1 << 15
"""Bytes at the end of each segment that only lifecycle records may take (a quarter of a small
one)."""

_ALLOCATION_STEP = 1 << 22


class Segment:
    """A file that takes frames, and all the writer knows of it: one store swaps the whole.

    ``offset`` is where the next frame goes. Up to ``limit`` frames go in without a further look:
    half of the segment at first (then it is time to make the next one ready), then ``usable``, all
    but the reserve.
    """

    __slots__ = ("buffer", "capacity", "limit", "number", "offset", "usable")

    def __init__(self, number: int, buffer: Buffer, capacity: int) -> None:
        self.number = number
        self.buffer = buffer
        self.capacity = capacity
        self.usable = capacity - min(LIFECYCLE_RESERVE, capacity // 4)
        self.limit = self.usable // 2
        self.offset = 0


def capacity_for(frame: int) -> int:
    """The least capacity of a segment that takes a frame of that size and has its reserve still."""
    return frame + min(LIFECYCLE_RESERVE, frame // 3 + 1)


def create_segment(path: Path, size: int) -> None:
    """Make ``path`` with ``size`` bytes of zeros, on disk; one that exists is left as it is.

    Raises ``OSError`` (``ENOSPC``, ``EDQUOT``, ``EFBIG``) when the disk has no room for it.
    """
    make_private_directory(path.parent)
    temporary = temporary_beside(path)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)
    try:
        _allocate(descriptor, size)
        _link(temporary, path, size)
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def open_segment(path: Path, number: int, grow_to: int) -> Segment:
    """Open segment ``number``, which exists; raises ``OSError``.

    ``grow_to``: its capacity where no blocks could be allocated, so that it is empty.
    """
    descriptor = os.open(path, os.O_RDWR)
    try:
        size = os.fstat(descriptor).st_size
        return Segment(number, open_buffer(descriptor, size), size or grow_to)
    finally:
        os.close(descriptor)


def _allocate(descriptor: int, size: int) -> None:
    # In steps: a signal makes some kernels begin the call anew, and a long one would never end under
    # a fast timer.
    for start in range(0, size, _ALLOCATION_STEP):
        length = min(_ALLOCATION_STEP, size - start)
        if not hasattr(os, "posix_fallocate"):  # macOS; zeros take the blocks just the same
            write_all(descriptor, bytes(length), start)
            continue
        try:
            os.posix_fallocate(descriptor, start, length)
        except OSError as error:
            if is_disk_full(error) or not is_of_the_system(error):
                raise
            return  # not supported here: an empty file, written with pwrite, cannot raise SIGBUS


def _link(temporary: Path, path: Path, size: int) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError as error:
        if not is_of_the_system(error):
            raise
        # No hard links here, and a rename could replace a segment that is in use. Whoever opens
        # this one before it has its length writes it with pwrite.
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, FILE_MODE)
            try:
                _allocate(descriptor, size)
            finally:
                os.close(descriptor)
