"""Following a journal, in the shipper: records in order, whatever happened to the bytes.

Invariants:

* An empty place means "wait" while the writer lives and stays in this segment. Once the writer is
  dead, or the next segment has been begun (the writer never goes back), it means the segment is at
  its end.
* A bad frame is skipped as soon as a whole one is found behind it, and counted. With none behind
  it, it is one being written (wait), or the torn tail of a dead writer (counted, the end).
* An unsealed sample (:mod:`trackside.journal.layouts`) has no checksum yet. It counts as whole where its ends
  are there, its length is its layout's, and its number is due: the next one, or behind damage one that the
  records between may have led to. Where stores may become visible out of order, two looks must agree.
* Layouts are not returned. A sample whose layout is nowhere to be found is lost, like one that can't be
  decoded.
* The checksums of what turns out to be no frame have a budget for each segment. Bytes made to exhaust it
  count as damage.
* Every record that was lost before the last one read is counted once: in ``damaged`` where its
  place was seen, in ``missing`` where only the numbers tell. What is bad behind the last one read
  is in ``torn``.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeAlias

import msgspec

from trackside.journal.blocks import STRONG_ORDER, is_empty, read_at
from trackside.journal.format import (
    ALIGNMENT,
    HEADER_SIZE,
    MAX_PAYLOAD,
    Frame,
    Record,
    SearchBudget,
    bytes_wanted,
    decode_record,
    find_frame,
    read_frame,
)
from trackside.journal.known_layouts import KnownLayouts
from trackside.journal.layouts import (
    LAYOUT_BEGINS,
    Layout,
    following_seq,
    layout_number,
    read_unsealed,
    seq_of,
)
from trackside.journal.opening import UnfitFileError, open_own
from trackside.journal.version import require_known

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory

CHUNK = 1 << 18
LIVE_SCAN = 1 << 20
"""Bytes behind a bad frame that are searched while the writer lives and may be in the midst of it.
Twice as many at each further look, since the record that is bad may be a large one."""

LARGEST_SEARCH = MAX_PAYLOAD + (1 << 20)
"""Bytes behind a bad frame that are searched at most: the largest segment that a writer makes."""

_STEP = 8
"""How much longer each further look behind a bad frame is."""

_SMALLEST_FRAME = 16
"""Bytes: so many records at most can have been in a place that is damaged."""

_ANY_NUMBER = 1 << 62


Number: TypeAlias = Annotated[int, msgspec.Meta(ge=0, lt=1 << 62)]


class Position(msgspec.Struct, frozen=True):
    """A place between two records: the next frame, and the number of the record before it."""

    segment: Number = 1
    offset: Number = 0
    seq: Number = 0


class Entry(NamedTuple):
    """A record, and the position behind it."""

    record: Record
    after: Position


class JournalReader:
    """Reads the records of the journal in ``directory`` from ``position`` on.

    Raises :class:`~trackside.errors.JournalError` for a journal in a newer format.

    Set ``writer_dead`` once the writer can write no more. ``damaged + missing`` records were lost
    between the first position and the last record read. ``torn`` bad places lie behind it (a dead
    writer's last, unfinished record), and a reader started at that record will meet them again.
    """

    def __init__(self, directory: JournalDirectory, position: Position | None = None) -> None:
        require_known(directory.meta)
        self.directory = directory
        self.position = position or Position()
        self.damaged = 0
        self.missing = 0
        self.torn = 0
        self.writer_dead = False
        self._descriptor: int | None = None
        self._opened = 0
        self._data = b""
        self._base = 0
        self._torn_at: Position | None = None
        self._live_scan = LIVE_SCAN
        self._budget = SearchBudget()
        self._tried_at: Position | None = None
        self._layouts = KnownLayouts()
        self._layout_before: Layout | None = None
        self._skipped = self._skipped_before()

    def read(self, limit: int = 1000) -> list[Entry]:
        """Records that are there now, until they hold ``limit`` points or more."""
        entries: list[Entry] = []
        points = 0
        while points < limit and len(entries) < limit:
            entry = self._next()
            if entry is None:
                break
            entries.append(entry)
            points += entry.record.points
        return entries

    def hold(self) -> None:
        """Open the segment at the position now, so that it can be read even if it is removed."""
        with contextlib.suppress(OSError):
            self._open()

    def rewind(self, position: Position) -> None:
        """Read from ``position`` again, as a new reader would. A segment that is open stays so."""
        self.position = position
        self.damaged = self.missing = self.torn = 0
        self._torn_at = None
        self._live_scan = LIVE_SCAN
        self._data, self._base = b"", 0
        self._skipped = self._skipped_before()

    def close(self) -> None:
        """Close the segment that is open."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _next(self) -> Entry | None:
        while self._open():
            entry = self._sample_here()
            if entry is not None:
                return entry
            frame = self._frame_here()
            if frame is None:
                # Asked before the search, so that what was written before the answer is searched.
                over = self._segment_is_over()
                frame = self._frame_behind_damage(over=over)
                if frame is None and not (over and self._leave_segment()):
                    return None
            record = None if frame is None else self._take(frame)
            if record is not None:
                return Entry(record, self.position)
        return None

    def _sample_here(self) -> Entry | None:
        """The record at the position where it is as usual: a sample with the names of the one before it.

        What this does not take the other methods look at, and they would return the same.
        """
        layout, position = self._layout_before, self.position
        if layout is None:
            return None
        record = layout.record_at(self._data, position.offset - self._base)
        if record is None or record.seq != position.seq + 1:
            return None
        self.torn = self._skipped = 0
        after = Position(position.segment, position.offset + layout.frame_size, record.seq)
        self.position = after
        return Entry(record, after)

    def _take(self, frame: Frame) -> Record | None:
        """Move the position behind ``frame``. Returns its record, if it has one that is new."""
        payload, seq = frame.payload, self.position.seq
        record = self._record_of(payload)
        if record is None:
            if not (payload.startswith(LAYOUT_BEGINS) and self._layouts.learn(payload)):
                self.torn += 1
            self._skipped += len(payload)
        elif record.seq > seq:
            self._account_for(record.seq - seq - 1)
            seq = record.seq
            self._skipped = 0
        else:
            record = None
        self.position = Position(self.position.segment, self._base + frame.end, seq)
        return record

    def _record_of(self, payload: bytes) -> Record | None:
        number = layout_number(payload)
        if number is None:
            return decode_record(payload)
        layout = self._layout(number)
        if layout is None or len(payload) != layout.length:
            return None
        self._layout_before = layout if STRONG_ORDER else None
        return layout.record_of(payload)

    def _layout(self, number: int) -> Layout | None:
        known = self._layouts.get(number)
        if known is not None or not self._layouts.is_worth_a_look(number, self.position.offset):
            return known
        assert self._descriptor is not None  # noqa: S101 - only called with the segment open
        size, over = self._segment_size(), self._segment_is_over()
        return self._layouts.find(number, self._descriptor, self.position.offset, size=size, over=over)

    def _account_for(self, lost: int) -> None:
        """Count records lost before the one just read. A bad place may hold many, or none."""
        self.damaged += min(self.torn, lost)
        self.missing += max(lost - self.torn, 0)
        self.torn = 0

    def _open(self) -> bool:
        """Have the segment of the current position open. Step over segments that are gone."""
        if self._descriptor is not None and self._opened == self.position.segment:
            return True
        self.close()
        try:
            self._descriptor = open_own(self.directory.segment(self.position.segment), os.O_RDONLY)
        except (FileNotFoundError, UnfitFileError):
            later = [n for n in self.directory.segment_numbers() if n > self.position.segment]
            if not later:
                return False
            self._move_to(later[0], skipped=_ANY_NUMBER)
            return self._open()
        self._opened = self.position.segment
        self._data, self._base = b"", 0
        self._budget = SearchBudget()
        self._layouts.enter_segment()
        return True

    def _move_to(self, segment: int, *, skipped: int) -> None:
        self._skipped += skipped
        self.position = Position(segment, 0, self.position.seq)

    def _skipped_before(self) -> int:
        """Bytes between the last record and the position. Who begins at a segment may know of none."""
        return 0 if self.position.seq or self.position == Position() else _ANY_NUMBER

    def _frame_here(self) -> Frame | None:
        """The frame at the position, or None while no whole one is there."""
        frame = self._frame_at(self._load(HEADER_SIZE), self.position.offset - self._base)
        if frame is None:
            wanted = self._bytes_to_try()
            data = self._load(max(wanted, HEADER_SIZE), fresh=True)
            frame = self._frame_at(data, self.position.offset - self._base)
            self._budget.left -= 0 if frame is not None else wanted
        return frame

    def _frame_at(self, data: bytes, offset: int) -> Frame | None:
        """The whole frame at ``offset`` of ``data``, which begins at ``_base``."""
        frame = read_unsealed(data, offset)
        if frame is None:
            return read_frame(data, offset)
        return frame if self._is_sample(frame, data, offset) else read_frame(data, offset)

    def _is_sample(self, frame: Frame, data: bytes, offset: int) -> bool:
        """Whether ``frame``, which is not sealed, is a whole sample."""
        layout = self._layout(layout_number(frame.payload) or 0)
        if layout is not None and layout.length != len(frame.payload):
            return False
        ahead = seq_of(frame.payload) - self.position.seq - 1
        skipped = self._skipped + self._base + offset - self.position.offset
        if not 0 <= ahead <= skipped // _SMALLEST_FRAME:
            return False
        if ahead and following_seq(frame, data) not in {None, seq_of(frame.payload) + 1}:
            return False
        return STRONG_ORDER or self._is_settled(frame)

    def _is_settled(self, frame: Frame) -> bool:
        """Whether another look at ``frame`` sees the same bytes."""
        assert self._descriptor is not None  # noqa: S101 - only called with the segment open
        size = len(frame.payload)
        return read_at(self._descriptor, size, self._base + frame.end - size) == frame.payload

    def _bytes_to_try(self) -> int:
        """How many bytes the frame at the position claims."""
        if self._tried_at == self.position:  # another look at the same place
            self._budget = SearchBudget()
        self._tried_at = self.position
        wanted = bytes_wanted(self._load(HEADER_SIZE), self.position.offset - self._base)
        return wanted if wanted <= self._budget.left else 0

    def _frame_behind_damage(self, *, over: bool) -> Frame | None:
        """Search behind a frame that is bad or empty, as far as the invariants allow."""
        here = self.position.offset - self._base
        if not over and not any(self._data[here : here + HEADER_SIZE]):
            return None
        size = self._segment_size() if over else self._live_scan
        length = CHUNK
        frame = None
        while frame is None:  # in steps: a segment with a bad place at every turn is not read each time
            data = self._load(length, fresh=True)
            frame = self._frame_at(data, 0)  # it may have been finished meanwhile
            if frame is None:
                found = find_frame(data, ALIGNMENT, self._budget, self._frame_at)
                frame = None if found is None else self._frame_at(data, found)
                self.torn += frame is not None
                self._skipped += found or 0
            if frame is None and length >= size:
                self._note_nothing_behind(data, over=over)
                return None
            length *= _STEP
        self._live_scan = LIVE_SCAN
        return frame

    def _note_nothing_behind(self, data: bytes, *, over: bool) -> None:
        if not over:
            self._live_scan = min(2 * self._live_scan, LARGEST_SEARCH)
        elif self._torn_at != self.position and not is_empty(data):
            self.torn += 1
            self._torn_at = self.position

    def _leave_segment(self) -> bool:
        """Go to the next segment. Returns False if this is the last one."""
        later = [n for n in self.directory.segment_numbers() if n > self.position.segment]
        if later:
            behind = self._segment_size() - self.position.offset
            follows = later[0] == self.position.segment + 1
            self._move_to(later[0], skipped=max(behind, 0) if follows else _ANY_NUMBER)
        return bool(later)

    def _segment_is_over(self) -> bool:
        """Whether the writer can write no more to the segment at the position."""
        return self.writer_dead or any(
            is_begun(self.directory, number)
            for number in self.directory.segment_numbers()
            if number > self.position.segment
        )

    def _segment_size(self) -> int:
        assert self._descriptor is not None  # noqa: S101 - only called with the segment open
        return min(os.fstat(self._descriptor).st_size, LARGEST_SEARCH)  # a sparse file says anything

    def _load(self, size: int, *, fresh: bool = False) -> bytes:
        """Read ``size`` bytes from the position on into ``_data``, or as many as the file has."""
        assert self._descriptor is not None  # noqa: S101 - only called with the segment open
        offset = self.position.offset
        have = self._base + len(self._data) - offset
        if fresh or have < size or offset < self._base:
            self._data = read_at(self._descriptor, max(size, CHUNK), offset)
            self._base = offset
        return self._data


def is_begun(directory: JournalDirectory, number: int) -> bool:
    """Whether something was written to segment ``number``."""
    try:
        descriptor = open_own(directory.segment(number), os.O_RDONLY)
    except OSError:
        return False
    try:
        return any(os.pread(descriptor, HEADER_SIZE, 0))
    except OSError:
        return False
    finally:
        os.close(descriptor)


def last_seq(directory: JournalDirectory) -> int | None:
    """The number of the last record on disk, or None if no segment is left."""
    numbers = directory.segment_numbers()
    if not numbers:
        return None
    reader = JournalReader(directory, Position(numbers[0]))
    reader.writer_dead = True
    try:
        while reader.read():
            pass
    finally:
        reader.close()
    return reader.position.seq
