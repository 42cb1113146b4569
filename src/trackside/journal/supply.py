"""Where segments come from: how large they are made, within which bounds, and who makes them.

The next segment is made by whichever comes first: the shipper (:func:`segment_ready_after`), the
thread that crosses the middle of the current one, or, when both failed, the thread that needs it.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from trackside.journal.format import MAX_PAYLOAD, frame_size
from trackside.journal.opening import UnfitFileError, open_file
from trackside.journal.segment import Segment, capacity_for, create_segment, open_segment
from trackside.system.files import is_disk_full

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory

FIRST_SIZE = 1 << 20
LARGEST_SIZE = 1 << 26
"""Segments double from 1 MiB to 64 MiB: a short run takes little, a long one rotates seldom. (A
record that fits into such a segment is never above ``MAX_PAYLOAD``.)"""

SMALLEST_SIZE = 1 << 17
"""Bytes: a nearly full disk gets segments down to this size before samples are dropped."""

DEFAULT_CAP = 4 << 30
"""Bytes of segments on disk beyond which samples are dropped until the shipper has caught up."""

_READ_SIZE = 1 << 20

_SHARES = 4
"""A segment takes at most this part of the cap: one that is full and delivered is deleted only when
the next one is begun, so there must be room for the next one."""


class SegmentSupply:
    """Opens the segments of the journal in ``directory`` one after the other, for its writer."""

    def __init__(self, directory: JournalDirectory, cap: int) -> None:
        self.largest_payload = min(MAX_PAYLOAD, cap // 3)
        """Bytes: the segment of a larger one could take more than half of the cap."""
        self._directory = directory
        self._cap = cap

    def open(self, number: int, payload_size: int = 0) -> Segment:
        """Segment ``number`` or, where a payload of that size does not fit into it, a later one.

        Raises ``OSError`` when there is no room, on the disk or below the cap.
        """
        needed = frame_size(payload_size)
        while True:
            path = self._directory.segment(number)
            if not os.access(path, os.F_OK):
                self._create(number, needed)
            try:
                segment = open_segment(path, number, self._wanted(number, needed))
            except UnfitFileError:  # a FIFO, folder or link of another program has the name
                number += 1
                continue
            if needed <= segment.usable:
                return segment
            segment.buffer.close()  # too small for this one record: it stays empty
            number += 1

    def _create(self, number: int, needed: int) -> None:
        """Make segment ``number`` as large as usual or, where room is short, large enough."""
        wanted = self._wanted(number, needed)
        enough = max(min(SMALLEST_SIZE, wanted), capacity_for(needed))
        left = self._cap - self._directory.segment_bytes()
        size = min(wanted, left)
        if size < enough:
            raise OSError(errno.EDQUOT, f"the cap of {self._cap} bytes is reached")
        while True:
            try:
                create_segment(self._directory.segment(number), size)
            except OSError as error:
                if not is_disk_full(error) or size // 2 < enough:
                    raise
                size //= 2
            else:
                return

    def _wanted(self, number: int, needed: int) -> int:
        return max(size_of_segment(number, self._cap), capacity_for(needed))


def size_of_segment(number: int, cap: int = DEFAULT_CAP) -> int:
    """Bytes segment ``number`` (from 1) is usually made with."""
    doubled = min(FIRST_SIZE << min(number - 1, 32), LARGEST_SIZE)
    return min(doubled, cap // _SHARES)


def segment_ready_after(directory: JournalDirectory, number: int, *, cap: int = DEFAULT_CAP) -> None:
    """Make the segment after ``number``, if it is missing and the cap allows, for the writer.

    Raises ``OSError`` when the disk is full.
    """
    path = directory.segment(number + 1)
    size = size_of_segment(number + 1, cap)
    if size and not os.access(path, os.F_OK) and directory.segment_bytes() + size <= cap:
        create_segment(path, size)
        _read_through(path)


def _read_through(path: Path) -> None:
    """Bring the file into the page cache, so that the writer's first store to a page finds it there."""
    descriptor = open_file(path, os.O_RDONLY)
    try:
        while os.read(descriptor, _READ_SIZE):
            pass
    finally:
        os.close(descriptor)
