"""Appending records, in the training process.

Invariants:

* When :meth:`JournalWriter.append` returns True the record is in the shared mapping, and no death
  of the process can take it back. There is no system call on the way, and the GIL is not released.
* The lock covers numbering, encoding and two copies. The next segment is made ready before it is
  needed, outside the lock, by whoever crosses the middle of the current one (and the shipper has
  usually made the file by then). Only when both failed is it made at the moment of need. Nothing is
  logged under the lock: a logging handler may hold a lock of its own while it appends.
* A place is reserved, then filled, and ``unfinished`` says so in between. Whoever comes next
  finishes what it finds there before anything else. So an exception thrown into the middle
  (KeyboardInterrupt) leaves no hole, and what interrupts this very thread (a signal handler, a
  finaliser that logs) appends behind the record it interrupted, really and at once: it may end the
  process in its next line.
* A journal that has no room (cap, full disk, gone directory) drops samples, counts them, says so
  once, and looks again twice a second. Lifecycle records have a reserve of their own in each
  segment.

* :mod:`trackside.journal.samples` writes beside ``append`` and without the lock. Its records are reserved and
  filled with nothing in between, so it may come in wherever another thread or a signal handler may.

The second half of the third rests on this, and so does the last: CPython runs signal handlers, and lets other
exceptions and threads in, at calls and jumps backward, and not between plain loads, stores and comparisons.
Python 3.10 also does so at each conditional jump that is taken. So a comparison that decides is the condition
of an ``if`` whose body continues, and is never a reason to return.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from mmap import mmap
from typing import TYPE_CHECKING, NamedTuple, NoReturn, TypeAlias
from zlib import crc32

from trackside.errors import JournalError
from trackside.journal.directory import not_writable
from trackside.journal.format import (
    ALIGNMENT,
    FRAME_HEADER,
    HEADER_SIZE,
    QUIET,
    LifecycleRecord,
    Record,
    encode,
    frame_header,
    frame_size,
)
from trackside.journal.scoreboard import Scoreboard
from trackside.journal.segment import Segment
from trackside.journal.supply import DEFAULT_CAP, SegmentSupply
from trackside.system.clock import steady
from trackside.system.files import is_of_the_system
from trackside.system.mapping import NoBuffer

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory

logger = logging.getLogger("trackside.journal")

RETRY_AFTER = 0.5
"""Seconds between two tries to get room again."""

_ROUND_UP = ALIGNMENT - 1
_pack = FRAME_HEADER.pack


Reserved: TypeAlias = tuple[Segment, int, bytes, bytes]
"""A place that is taken, and what belongs there: segment, offset, header, payload."""


class Place(NamedTuple):
    """Where a frame ends."""

    segment: Segment
    offset: int


class _Way(NamedTuple):
    """Whether to try again, and what is left to do without the lock."""

    clear: bool
    used_up: Segment | None = None
    notice: str | None = None


class _End:
    """The end of a journal: what a sample needs to know of its writer, close together in memory."""

    __slots__ = ("last_seq", "segment", "unfinished")

    last_seq: int
    segment: Segment
    unfinished: Reserved | None
    """What an append that is under way, or was interrupted, has yet to fill in."""


class JournalWriter(_End):
    """Appends records to the journal in ``directory``. One to a journal, any number of threads.

    Raises :class:`trackside.errors.JournalError` when the directory can't be written, or is in use.
    """

    def __init__(self, directory: JournalDirectory, *, cap: int = DEFAULT_CAP) -> None:
        self.directory = directory
        self.last_seq: int = 0
        self.unfinished: Reserved | None = None
        self.artifacts: int = 0
        """How many records of artifacts there are."""
        self.artifact_bytes: int = 0
        self._lock = threading.RLock()
        self._closed = self._given_up = False
        self._ready: Segment | None = None
        self._supply = SegmentSupply(directory, cap)
        self._full = False
        self._told_too_large = False
        self._dropped_before = 0
        self._next_try = 0.0
        if directory.segment_numbers():
            raise JournalError(f"the journal {directory.path} has records of another writer")
        try:
            self.scoreboard: Scoreboard = Scoreboard(directory.scoreboard)
            self.segment: Segment = self._supply.open(1)
        except OSError as error:
            raise not_writable(directory.path, error) from error

    @property
    def is_closed(self) -> bool:
        """Whether it takes no records any more: after ``close``, and in a forked child."""
        return self._closed

    def append(self, record: Record) -> bool:
        """Number ``record`` and keep it. Returns False when there was no room (counted) or after ``close``.

        Raises ``TypeError``, ``UnicodeEncodeError`` or ``OverflowError`` for a record that cannot
        be encoded. The journal is then as it was.
        """
        while True:
            lock, refused = self._lock, None
            try:  # not `with`: that costs 150 ns more
                lock.acquire()
                seq = self.last_seq + 1
                record.seq = seq
                payload = encode(record)
                size = len(payload)
                segment = self.segment
                start = segment.offset
                body = start + HEADER_SIZE
                end = body + size
                following = (end + _ROUND_UP) & -ALIGNMENT
                if self.unfinished is None and (
                    following <= segment.limit or _fits_reserve(record, following, segment)
                ):
                    # The body of frame_header once more, where one piece will do.
                    header = _pack(size, crc32(payload, size)) if size <= QUIET else frame_header(payload)
                    mine = (segment, start, header, payload)
                    # No call from the comparison to the last of the three stores: see above.
                    if self.last_seq < seq and segment.offset == start and self.segment is segment:
                        self.unfinished = mine
                        segment.offset = following
                        self.last_seq = seq
                        try:
                            segment.buffer[body:end] = payload
                            segment.buffer[start:body] = header
                        except (OSError, ValueError) as error:  # never with a mapping in use
                            refused = self._take_back(mine, seq, error)
                        if self.unfinished is mine:
                            self.unfinished = None
                        if refused is None:
                            return True
            finally:
                try:
                    lock.release()
                except RuntimeError as error:
                    if "un-acquired" not in str(error):  # a signal handler's, as the lock was released
                        raise
                    # else an exception came while this thread still waited for the lock
            if not self._clear_the_way(record, size, refused):
                return False

    def put_unnumbered(self, payload: bytes) -> Place | None:
        """Keep ``payload`` as a frame without a number and return the place behind it.

        Returns None, and does nothing, where this would take more than a copy: at the end of a segment,
        behind an interrupted append, and where a store is a system call.
        """
        header = frame_header(payload)
        with self._lock:
            segment = self.segment
            start = segment.offset
            following = start + frame_size(len(payload))
            mine = (segment, start, header, payload)
            if type(segment.buffer) is not mmap or following > segment.limit:
                return None
            # No call, and no jump that is taken, from the comparison to the second store, as in append().
            if self.unfinished is None and segment.offset == start and self.segment is segment:
                self.unfinished = mine
                segment.offset = following
                self._finish()
                return Place(segment, following)
        return None

    def note_artifact(self, size: int) -> None:
        """Count an artifact of ``size`` bytes, whose record was appended."""
        self.artifacts += 1
        self.artifact_bytes += size

    def __reduce__(self) -> NoReturn:
        """Raise ``TypeError``: a journal has one writer, in the process that started the run."""
        raise TypeError(
            "a journal can't be pickled: a run belongs to the process that started it. Log in that process, "
            "or call trackside.start() in the other one"
        )

    def close(self) -> None:
        """Refuse further records and let go of the files."""
        with self._lock:
            if not self._closed:
                with contextlib.suppress(OSError):
                    self._finish()
                open_ones = [self.segment, *([self._ready] if self._ready else [])]
                self._become_closed()
                for segment in open_ones:
                    segment.buffer.close()
                self.scoreboard.close()

    def give_up(self) -> None:
        """Drop and count every record from now on: the journal was removed, and nothing reads it."""
        with self._lock:
            if not self._closed and not self._given_up:
                self._given_up = True
                used_up, self.segment = self.segment, Segment(0, NoBuffer(), 0)
                ready, self._ready = self._ready, None
                self.unfinished = None
                used_up.buffer.close()
                if ready is not None:
                    ready.buffer.close()

    def abandon(self) -> None:
        """Make this copy inert, in a forked child: only the parent continues to write."""
        self._lock = threading.RLock()  # the old one may be held by a thread that is not here
        self._become_closed()
        self.scoreboard.close()

    def _become_closed(self) -> None:
        self._closed = True
        self.segment = Segment(0, NoBuffer(), 0)
        self._ready = self.unfinished = None

    def _finish(self) -> None:
        """Complete an append that was interrupted, for good or by this very call."""
        unfinished = self.unfinished
        if unfinished is not None:
            segment, start, header, payload = unfinished
            body = start + HEADER_SIZE
            try:
                segment.buffer[body : body + len(payload)] = payload
                segment.buffer[start:body] = header
            except ValueError:  # closed: a signal handler has finished it, and used the segment up
                if self.unfinished is unfinished:
                    raise
            if self.unfinished is unfinished:
                self.unfinished = None

    def _take_back(self, mine: Reserved, seq: int, error: Exception) -> OSError | None:
        """Free the place and return the error. Return None if a signal handler has written the record."""
        if self.unfinished is not mine:
            return None
        if not isinstance(error, OSError) or not is_of_the_system(error):
            raise error
        # What follows has no call in it, so nothing can come between it and one last look.
        if self.unfinished is mine:
            mine[0].offset = mine[1]
            self.last_seq = seq - 1
            self.unfinished = None
            return error
        return None

    def _clear_the_way(self, record: Record, size: int, refused: OSError | None) -> bool:
        """Do something about what keeps ``record`` out. Returns False when it is dropped."""
        with self._lock:
            way = self._no_room(record, refused) if refused else self._find_way(record, size)
        if way.used_up is not None:
            way.used_up.buffer.close()  # takes a while, where its pages are not yet let go
        self.segment.let_go_behind()
        self._prepare()
        if way.notice:
            logger.warning(way.notice)
        return way.clear

    def _find_way(self, record: Record, size: int) -> _Way:
        if self._closed:
            return _Way(clear=False)
        if self._given_up:
            return self._drop(record)
        try:
            self._finish()
            segment = self.segment
            following = segment.offset + frame_size(size)
            if following <= segment.usable or _fits_reserve(record, following, segment):
                segment.extend_limit(following)
                return _Way(clear=True)
            if size > self._supply.largest_payload:
                return self._drop(record, self._note_too_large(size))
            return self._rotate(record, segment, size)
        except OSError as error:
            return self._no_room(record, error)

    def _rotate(self, record: Record, used_up: Segment, size: int) -> _Way:
        """Continue in the next segment. Raises ``OSError`` if none can be made."""
        following, opened = self._ready, None
        if following is None or following.usable < frame_size(size):
            if self._full and steady() < self._next_try:
                return self._drop(record)
            following = opened = self._supply.open(used_up.number + 1, size)
        if self.segment is not used_up:  # a signal handler was here meanwhile
            if opened is not None:
                opened.buffer.close()
            return _Way(clear=True)
        self.segment = following
        self._ready = None
        return _Way(clear=True, used_up=used_up, notice=self._note_room())

    def _prepare(self) -> None:
        """Open the next segment at the middle of this one, without the lock."""
        current = self.segment
        done = self._closed or self._given_up or self._ready is not None
        if done or not current.half_used or steady() < self._next_try:
            return
        try:
            opened: Segment | None = self._supply.open(current.number + 1)
        except OSError as error:  # no sample is lost yet: said, if it must be, at the moment of need
            if not is_of_the_system(error):
                raise
            self._next_try = steady() + RETRY_AFTER
            return
        with self._lock:
            if self.segment is current and self._ready is None:
                self._ready, opened = opened, None
        if opened is not None:  # another thread needed it before it was ready
            opened.buffer.close()

    def _drop(self, record: Record, notice: str | None = None) -> _Way:
        self.scoreboard.note_dropped(record.points)
        return _Way(clear=False, notice=notice)

    def _no_room(self, record: Record, error: OSError) -> _Way:
        if not is_of_the_system(error):
            raise error
        self._next_try = steady() + RETRY_AFTER
        first, self._full = not self._full, True
        if not first:
            return self._drop(record)
        self._dropped_before = self.scoreboard.dropped_points
        reason = error.strerror or error
        return self._drop(
            record,
            f"the journal {self.directory.path} has no room ({reason}): "
            "samples are dropped and counted until it has",
        )

    def _note_too_large(self, size: int) -> str | None:
        told, self._told_too_large = self._told_too_large, True
        text = f"a record of {size} bytes is too large for the journal: such are dropped and counted"
        return None if told else text

    def _note_room(self) -> str | None:
        was_full, self._full = self._full, False
        dropped = self.scoreboard.dropped_points - self._dropped_before
        return f"the journal has room again. {dropped} points were dropped meanwhile" if was_full else None


def _fits_reserve(record: Record, following: int, segment: Segment) -> bool:
    return type(record) is LifecycleRecord and following <= segment.capacity
