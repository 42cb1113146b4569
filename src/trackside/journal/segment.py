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
import mmap
import os
from typing import TYPE_CHECKING

from trackside.journal.files import make_private_directory
from trackside.journal.opening import open_file
from trackside.system.files import is_disk_full, is_of_the_system, temporary_beside, write_all
from trackside.system.mapping import Buffer, open_buffer

if TYPE_CHECKING:
    from pathlib import Path

LIFECYCLE_RESERVE = 1 << 15
"""Bytes at the end of each segment that only lifecycle records may take (a quarter of a small
one)."""

_ALLOCATION_STEP = 1 << 22

STRETCH = 1 << 20
"""Bytes of a segment after which the pages behind are let go, a little each time: all 64 MiB at once take
2 ms. Also where the writer looks whether it is time to make the next segment ready."""


class Segment:
    """A file that takes frames, and all the writer knows of it: one store swaps the whole.

    ``offset`` is where the next frame goes. Up to ``limit`` frames go in without a further look. It
    moves on by a stretch at a time, up to ``usable``, all but the reserve.
    """

    __slots__ = ("_let_go", "buffer", "capacity", "limit", "number", "offset", "usable")

    def __init__(self, number: int, buffer: Buffer, capacity: int) -> None:
        self.number: int = number
        self.buffer: Buffer = buffer
        self.capacity: int = capacity
        self.usable: int = capacity - min(LIFECYCLE_RESERVE, capacity // 4)
        self.limit: int = min(STRETCH, self.usable // 2)
        self.offset: int = 0
        self._let_go = 0

    @property
    def half_used(self) -> bool:
        """Whether it is time to make the next one ready."""
        return self.limit > self.usable // 2

    def extend_limit(self, following: int) -> None:
        """Let frames go in up to ``following``, and a stretch further."""
        self.limit = min(self.usable, max(self.limit + STRETCH, following))

    def let_go_behind(self) -> None:
        """Give back the pages that are full. What is in them is in the file, and stays mapped."""
        start, end = self._let_go, self.offset & -mmap.PAGESIZE
        advise, advice = getattr(self.buffer, "madvise", None), getattr(mmap, "MADV_DONTNEED", None)
        if advise is not None and advice is not None and end - start >= STRETCH // 2:
            self._let_go = end
            with contextlib.suppress(ValueError, OSError):  # closed meanwhile, or locked into memory
                advise(advice, start, end - start)


def capacity_for(frame: int) -> int:
    """The least capacity of a segment that takes a frame of that size and has its reserve still."""
    return frame + min(LIFECYCLE_RESERVE, frame // 3 + 1)


def create_segment(path: Path, size: int) -> None:
    """Make ``path`` with ``size`` bytes of zeros, on disk. One that exists is left as it is.

    Raises ``OSError`` (``ENOSPC``, ``EDQUOT``, ``EFBIG``) when the disk has no room for it.
    """
    make_private_directory(path.parent)
    temporary = temporary_beside(path)
    descriptor = open_file(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL)
    try:
        _allocate(descriptor, size)
        _link(temporary, path, size)
    finally:
        os.close(descriptor)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def open_segment(path: Path, number: int, grow_to: int) -> Segment:
    """Open segment ``number``, which exists. Raises ``OSError``.

    ``grow_to``: its capacity where no blocks could be allocated, so that it is empty.
    """
    descriptor = open_file(path, os.O_RDWR)
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
        if not hasattr(os, "posix_fallocate"):  # macOS, where writing zeros takes the blocks as well
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
            descriptor = open_file(path, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                _allocate(descriptor, size)
            finally:
                os.close(descriptor)
