"""Appending records, in the training process.

Invariants:

* When :meth:`JournalWriter.append` returns True the record is in the shared mapping, and no death of
  the process can take it back. There is no system call on the way, and the GIL is not released.
* The lock covers numbering, encoding and two copies, never a file operation: the next segment is made
  ready before it is needed, outside the lock, by whoever crosses the middle of the current one (and the
  shipper has usually made the file by then). Only when both failed to is it made at the moment of need.
* Re-entrancy (a signal handler, a finaliser that logs while this thread is appending) finds the lock
  re-entrant and ``_writing`` set; its record waits for the interrupted append to finish, which writes it.
* An exception thrown into the middle (KeyboardInterrupt) leaves no hole: the frame is finished first.
* A journal that has no room (cap, full disk, gone directory) drops samples, counts them, says so once,
  and looks again twice a second. Lifecycle records have a reserve of their own in each segment.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from pathlib import Path

from trackside.journal.directory import JournalDirectory
from trackside.journal.format import (
    MAX_PAYLOAD,
    LifecycleRecord,
    MetricsRecord,
    Record,
    encode,
    frame_header,
    frame_size,
)
from trackside.journal.scoreboard import Scoreboard
from trackside.journal.segment import (
    FIRST_SIZE,
    Segment,
    create_segment,
    is_disk_full,
    open_segment,
    size_of_segment,
)

logger = logging.getLogger(__name__)

DEFAULT_CAP = 4 << 30
"""Bytes of segments on disk beyond which samples are dropped until the shipper has caught up."""

LIFECYCLE_RESERVE = 1 << 15
"""Bytes at the end of each segment that only lifecycle records may take."""

RETRY_AFTER = 0.5
"""Seconds between two tries to get room again."""

SMALLEST_SIZE = 1 << 17
"""Bytes; a nearly full disk gets segments down to this size before samples are dropped."""


class JournalWriter:
    """Appends records to the journal in ``directory``. One to a journal, any number of threads."""

    def __init__(self, directory: JournalDirectory, *, cap: int = DEFAULT_CAP) -> None:
        self.directory = directory
        self.scoreboard = Scoreboard(directory.scoreboard)
        self.last_seq = 0
        self._cap = cap
        self._lock = threading.RLock()
        self._writing = False
        self._deferred: deque[Record] = deque()
        self._closed = False
        self._preparing = threading.Lock()
        self._ready: tuple[int, Segment] | None = None
        self._full_since: float | None = None
        self._next_try = 0.0
        self._number = 1
        create_segment(directory.segment(1), min(FIRST_SIZE, cap))
        self._use(1, open_segment(directory.segment(1)))

    def append(self, record: Record) -> bool:
        """Number ``record`` and keep it; False when there was no room (counted) or after ``close``.

        Raises ``TypeError``, ``UnicodeEncodeError`` or ``OverflowError`` for a record that cannot be
        encoded; nothing has happened then.
        """
        with self._lock:
            if self._writing:
                self._deferred.append(record)
                return True
            self._writing = True
            try:
                kept = self._append(record)
            finally:
                self._writing = False
            while self._deferred:
                self.append(self._deferred.popleft())
        if self._offset > self._half and self._ready is None:
            self._prepare()
        return kept

    def close(self) -> None:
        """Refuse further records and let go of the files."""
        with self._lock:
            self._closed = True
            self._segment.close()
            if self._ready is not None:
                self._ready[1].close()

    def abandon(self) -> None:
        """Make this copy inert, in a forked child: the parent goes on, the child writes nothing."""
        self._lock = threading.RLock()  # the old one may be held by a thread that is not here
        self._closed = True

    def _append(self, record: Record) -> bool:
        if self._closed:
            return False
        seq = self.last_seq + 1
        record.seq = seq
        payload = encode(record)
        start = self._offset
        end = start + frame_size(len(payload))
        if end > self._limit:
            found = self._make_room(record, len(payload))
            if found is None:
                self._drop(record)
                return False
            start, end = found, found + frame_size(len(payload))
        header = frame_header(payload)
        try:
            self.last_seq = seq
            self._offset = end
            self._segment.publish(start, header, payload)
        except OSError as error:  # only where frames go through pwrite
            self._report_full(error)
            self._drop(record)
            return False
        except BaseException:  # an interrupt that landed in the middle: no hole may stay behind
            self.last_seq = seq
            self._offset = end
            self._segment.publish(start, header, payload)
            raise
        return True

    def _use(self, number: int, segment: Segment) -> None:
        self._number = number
        self._segment = segment
        self._offset = 0
        self._limit = max(segment.capacity - LIFECYCLE_RESERVE, 0)
        self._half = segment.capacity // 2

    def _make_room(self, record: Record, size: int) -> int | None:
        """Offset for a frame that does not fit below the limit: in the reserve, or in a new segment."""
        needed = frame_size(size)
        if isinstance(record, LifecycleRecord) and self._offset + needed <= self._segment.capacity:
            return self._offset
        if size > MAX_PAYLOAD:
            logger.warning("a record of %d bytes is larger than the journal takes; it is dropped", size)
            return None
        if self._full_since is not None and time.monotonic() < self._next_try:
            return None
        ready = self._ready if self._fits(needed) else self._open_next(needed)
        if ready is None:
            return None
        used_up, self._ready = self._segment, None
        self._use(*ready)
        used_up.close()
        self._note_room()
        return 0

    def _fits(self, needed: int) -> bool:
        return self._ready is not None and needed <= self._ready[1].capacity - LIFECYCLE_RESERVE

    def _prepare(self) -> None:
        """Open the next segment before it is needed; the lock is taken only to hand it over."""
        if not self._preparing.acquire(blocking=False):
            return
        try:
            if self._closed or time.monotonic() < self._next_try:
                return
            opened = self._open_next(0)
            with self._lock:
                if opened is not None and opened[0] > self._number and self._ready is None:
                    self._ready, opened = opened, None
            if opened is not None:  # somebody needed it sooner than it was ready
                opened[1].close()
        finally:
            self._preparing.release()

    def _open_next(self, needed: int) -> tuple[int, Segment] | None:
        """The segment after the current one, with room for ``needed`` bytes; None when there is no room."""
        number = self._number + 1
        least = max(SMALLEST_SIZE, needed + LIFECYCLE_RESERVE)
        try:
            while True:
                path = self.directory.segment(number)
                if not path.exists() and not self._create(path, max(size_of_segment(number), least), least):
                    return None
                segment = open_segment(path)
                if needed <= segment.capacity - LIFECYCLE_RESERVE:
                    return number, segment
                segment.close()  # too small for this one record: leave it empty, take the next
                number += 1
        except OSError as error:
            self._report_full(error)
            return None

    def _create(self, path: Path, size: int, least: int) -> bool:
        """Make a segment of ``size`` bytes or, where there is no room for that, of ``least`` or more."""
        left = self._cap - self.directory.segment_bytes()
        size = min(size, left & -4096)
        if size < least:
            self._report_full(None)
            return False
        while True:
            try:
                create_segment(path, size)
            except OSError as error:
                if not is_disk_full(error) or size // 2 < least:
                    raise
                size //= 2
            else:
                return True

    def _drop(self, record: Record) -> None:
        points = len(record.metrics) if isinstance(record, MetricsRecord) else 0
        self.scoreboard.note_dropped(points)

    def _report_full(self, error: OSError | None) -> None:
        self._next_try = time.monotonic() + RETRY_AFTER
        if self._full_since is None:
            self._full_since = time.monotonic()
            reason = (error.strerror or str(error)) if error else f"the cap of {self._cap} bytes is reached"
            logger.warning(
                "the journal %s has no room (%s): samples are dropped and counted until it has",
                self.directory.path,
                reason,
            )

    def _note_room(self) -> None:
        if self._full_since is not None:
            logger.warning(
                "the journal has room again; %d points were dropped meanwhile", self.scoreboard.dropped_points
            )
            self._full_since = None


def segment_ready_after(directory: JournalDirectory, number: int, *, cap: int = DEFAULT_CAP) -> None:
    """Make the segment after ``number`` if it is missing and the cap allows; the shipper's kindness.

    Raises ``OSError`` when the disk is full.
    """
    path = directory.segment(number + 1)
    size = size_of_segment(number + 1)
    if not os.path.exists(path) and directory.segment_bytes() + size <= cap:
        create_segment(path, size)
