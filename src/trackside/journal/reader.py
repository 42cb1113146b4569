"""Following a journal, in the shipper: records in order, whatever happened to the bytes.

Invariants:

* An empty place means "wait" while the writer lives and stays in this segment. Once the writer is dead,
  or the next segment has been begun (the writer never goes back), it means the segment is at its end.
* A bad frame is skipped as soon as a whole one is found behind it, and counted; with none behind it, it
  is one being written (wait), or the torn tail of a dead writer (counted, the end).
* Files are read with ``pread``, never mapped: a file cut by somebody else must not raise SIGBUS here.
"""

from __future__ import annotations

import os
from typing import NamedTuple

import msgspec

from trackside.journal.directory import JournalDirectory
from trackside.journal.format import (
    HEADER_SIZE,
    Record,
    bytes_wanted,
    decode,
    find_frame,
    is_empty,
    read_frame,
)

CHUNK = 1 << 18
LIVE_SCAN = 1 << 20
"""Bytes behind a bad frame that are searched while the writer lives and may be in the midst of it."""


class Position(msgspec.Struct, frozen=True):
    """A place between two records: the next frame to read, and the number of the record before it."""

    segment: int = 1
    offset: int = 0
    seq: int = 0


class Entry(NamedTuple):
    """A record, and the position behind it."""

    record: Record
    after: Position


class JournalReader:
    """Reads the records of the journal in ``directory`` from ``position`` on."""

    def __init__(self, directory: JournalDirectory, position: Position | None = None) -> None:
        self.directory = directory
        self.position = position or Position()
        self.damaged = 0
        self.missing = 0
        self.writer_dead = False
        self._descriptor: int | None = None
        self._opened = 0
        self._data = b""
        self._base = 0
        self._torn_at: Position | None = None

    def read(self, limit: int = 1000) -> list[Entry]:
        """Records that are there now, until they hold ``limit`` points or more; empty when none is."""
        entries: list[Entry] = []
        points = 0
        while points < limit and len(entries) < limit:
            entry = self._next()
            if entry is None:
                break
            entries.append(entry)
            points += entry.record.points
        return entries

    def close(self) -> None:
        """Close the segment that is open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _next(self) -> Entry | None:
        while self._open():
            payload = self._payload_here()
            if payload is None:
                # Asked before the search, so that whatever was written before the answer is searched.
                over = self._segment_is_over()
                payload = self._payload_behind_damage(over=over)
                if payload is None and not (over and self._leave_segment()):
                    return None
            record = None if payload is None else self._record(payload)
            if record is not None:
                return Entry(record, self.position)
        return None

    def _record(self, payload: bytes) -> Record | None:
        record = _decode(payload)
        if record is None:
            self.damaged += 1
        elif record.seq > self.position.seq:
            self.missing += record.seq - self.position.seq - 1
            self.position = Position(self.position.segment, self.position.offset, record.seq)
            return record
        return None

    def _open(self) -> bool:
        """Have the segment of the current position open; step over segments that are gone."""
        if self._descriptor is not None and self._opened == self.position.segment:
            return True
        self.close()
        try:
            self._descriptor = os.open(self.directory.segment(self.position.segment), os.O_RDONLY)
        except FileNotFoundError:
            later = [n for n in self.directory.segment_numbers() if n > self.position.segment]
            if not later:
                return False
            self._move_to(later[0])
            return self._open()
        self._opened = self.position.segment
        self._data, self._base = b"", 0
        return True

    def _move_to(self, segment: int) -> None:
        self.position = Position(segment, 0, self.position.seq)

    def _payload_here(self) -> bytes | None:
        """The payload at the position, which is moved behind it; None when there is none (yet)."""
        frame = read_frame(self._load(HEADER_SIZE), self.position.offset - self._base)
        if frame is None:
            wanted = bytes_wanted(self._load(HEADER_SIZE), self.position.offset - self._base)
            data = self._load(max(wanted, HEADER_SIZE), fresh=True)
            frame = read_frame(data, self.position.offset - self._base)
        if frame is None:
            return None
        self._skip_to(self._base + frame.end)
        return frame.payload

    def _payload_behind_damage(self, *, over: bool) -> bytes | None:
        """Search behind a frame that is bad or empty, as far as the invariants allow."""
        if not over and is_empty(self._data, self.position.offset - self._base):
            return None
        data = self._load(self._segment_size() if over else LIVE_SCAN, fresh=True)
        frame = read_frame(data, 0)  # it may have been finished meanwhile
        if frame is None:
            found = find_frame(data, 1)
            frame = None if found is None else read_frame(data, found)
            self.damaged += frame is not None
        if frame is None:
            self._note_torn_tail(over=over)
            return None
        self._skip_to(self._base + frame.end)
        return frame.payload

    def _note_torn_tail(self, *, over: bool) -> None:
        if over and self._torn_at != self.position and not is_empty(self._data, 0):
            self.damaged += 1
            self._torn_at = self.position

    def _leave_segment(self) -> bool:
        """Go to the next segment; False when there is none."""
        later = [n for n in self.directory.segment_numbers() if n > self.position.segment]
        if later:
            self._move_to(later[0])
        return bool(later)

    def _segment_is_over(self) -> bool:
        """Whether the writer can write no more to the segment at the position."""
        return self.writer_dead or any(
            self._is_begun(number)
            for number in self.directory.segment_numbers()
            if number > self.position.segment
        )

    def _is_begun(self, number: int) -> bool:
        try:
            with open(self.directory.segment(number), "rb") as file:
                return any(file.read(HEADER_SIZE))
        except OSError:
            return False

    def _segment_size(self) -> int:
        assert self._descriptor is not None  # noqa: S101 - only called with the segment open
        return os.fstat(self._descriptor).st_size

    def _skip_to(self, offset: int) -> None:
        self.position = Position(self.position.segment, offset, self.position.seq)

    def _load(self, size: int, *, fresh: bool = False) -> bytes:
        """Have ``size`` bytes from the position on in ``_data``, as far as the file has them."""
        assert self._descriptor is not None  # noqa: S101 - only called with the segment open
        offset = self.position.offset
        have = self._base + len(self._data) - offset
        if fresh or have < size or offset < self._base:
            self._data = os.pread(self._descriptor, max(size, CHUNK), offset)
            self._base = offset
        return self._data


def _decode(payload: bytes) -> Record | None:
    try:
        return decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
