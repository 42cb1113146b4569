"""One preallocated segment file, open for writing.

A segment gets its disk blocks when it is made (``posix_fallocate``), because a store into a sparse
mapping raises SIGBUS on a full disk, and a signal in the training process is what must never happen.
It appears under its name whole (made under another name, then linked), so that the trainer and the
shipper may both try to make the next one: the first wins and the other uses it.

Where the file system has no ``mmap`` or no ``fallocate``, segments are plain files written with
``pwrite``: slower beside busy threads, and nothing else changes.
"""

from __future__ import annotations

import errno
import mmap
import os
from pathlib import Path
from typing import Protocol

from trackside.journal.directory import DIRECTORY_MODE, FILE_MODE
from trackside.journal.format import HEADER_SIZE

FIRST_SIZE = 1 << 20
LARGEST_SIZE = 1 << 26
"""Segments double from 1 MiB to 64 MiB: a short run takes little, a long one rotates seldom."""

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class Segment(Protocol):
    """A place to put frames."""

    capacity: int

    def publish(self, start: int, header: bytes, payload: bytes) -> None:
        """Put a frame at ``start``: the payload first, then the header that makes it count."""

    def close(self) -> None:
        """Let go of the file; what was published stays."""


class MappedSegment:
    """Frames go through a shared mapping: no system call, the GIL is never released."""

    def __init__(self, descriptor: int, capacity: int) -> None:
        self.capacity = capacity
        self._map = mmap.mmap(descriptor, capacity)

    def publish(self, start: int, header: bytes, payload: bytes) -> None:
        body = start + HEADER_SIZE
        self._map[body : body + len(payload)] = payload
        self._map[start:body] = header

    def close(self) -> None:
        self._map.close()


class FileSegment:
    """Frames go through ``pwrite``, for file systems that cannot map or preallocate."""

    def __init__(self, descriptor: int, capacity: int) -> None:
        self.capacity = capacity
        self._descriptor = os.dup(descriptor)

    def publish(self, start: int, header: bytes, payload: bytes) -> None:
        os.pwrite(self._descriptor, payload, start + HEADER_SIZE)
        os.pwrite(self._descriptor, header, start)

    def close(self) -> None:
        os.close(self._descriptor)


def size_of_segment(number: int) -> int:
    """Bytes segment ``number`` (from 1) is made with."""
    return min(FIRST_SIZE << (number - 1), LARGEST_SIZE) if number < 8 else LARGEST_SIZE  # noqa: PLR2004


def create_segment(path: Path, size: int) -> None:
    """Make ``path`` with ``size`` bytes of zeros, all of them on disk; one that exists is left as it is.

    Raises ``OSError`` (``ENOSPC``, ``EDQUOT``, ``EFBIG``) when the disk has no room for it.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    try:
        _allocate(descriptor, size)
        _link(temporary, path)
    finally:
        os.close(descriptor)
        temporary.unlink(missing_ok=True)


def open_segment(path: Path) -> Segment:
    """Open a segment that exists; raises ``OSError``."""
    descriptor = os.open(path, os.O_RDWR)
    try:
        capacity = os.fstat(descriptor).st_size
        try:
            return MappedSegment(descriptor, capacity)
        except (OSError, ValueError):
            return FileSegment(descriptor, max(capacity, FIRST_SIZE))
    finally:
        os.close(descriptor)


def is_disk_full(error: OSError) -> bool:
    """Whether ``error`` says there is no room, rather than that something is broken."""
    return error.errno in _FULL


def _allocate(descriptor: int, size: int) -> None:
    if not hasattr(os, "posix_fallocate"):  # macOS: no fallocate; zeros take the blocks just the same
        _write_zeros(descriptor, size)
        return
    try:
        os.posix_fallocate(descriptor, 0, size)
    except OSError as error:
        if error.errno in _FULL:
            raise
        # not supported here: an empty file, written with pwrite, cannot raise SIGBUS


def _write_zeros(descriptor: int, size: int) -> None:
    block = bytes(1 << 20)
    for start in range(0, size, len(block)):
        os.pwrite(descriptor, block[: size - start], start)


def _link(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    except OSError:  # no hard links here: the rename could replace a used segment, so look first
        if not path.exists():
            os.replace(temporary, path)
