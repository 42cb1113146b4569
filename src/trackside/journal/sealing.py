"""Giving samples their checksums, in the shipper: damage to what reached the disk is noticed from then on.

The training process leaves the checksum of a sample out, which saves it time
(:mod:`trackside.journal.layouts`).

Invariants:

* Only samples are touched that a reader would return: each follows the record before it, or is followed by
  the one behind it. A single one beside damage may stay as it is.
* Only samples are touched to which the training process writes no more: something of them was seen a while
  ago, and they are whole now, or the segment is over.
* Bytes are replaced by the same bytes but for the marks. A death in between leaves some samples sealed.
* Damage is passed once a whole frame is found behind it, or the segment is over. It stays as it is.
* A call takes a bounded number of bytes, the newest segment first, and the next one continues behind it.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from trackside.journal.blocks import STRONG_ORDER, is_empty, read_at
from trackside.journal.format import (
    ALIGNMENT,
    HEADER_SIZE,
    Frame,
    SearchBudget,
    bytes_wanted,
    decode_record,
    find_frame,
    read_frame,
)
from trackside.journal.known_layouts import KnownLayouts
from trackside.journal.layouts import (
    LARGEST_FRAME,
    Layout,
    following_seq,
    layout_number,
    read_unsealed,
    seal,
    seq_of,
)
from trackside.journal.opening import UnfitFileError, open_own
from trackside.system.files import write_all

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trackside.journal.directory import JournalDirectory

AT_ONCE = 1 << 22
"""Bytes that a call looks at. It takes about 50 ms."""

SETTLED_AFTER = 0.25
"""Seconds from the look that saw something of a sample to the one that seals it."""

_STEP = 1 << 18


class Sealer:
    """Seals the samples of the journal in ``directory``."""

    def __init__(self, directory: JournalDirectory) -> None:
        self._directory = directory
        self._segments: dict[int, _Segment] = {}

    def seal(self, numbers: Iterable[int], *, newest: int, writer_dead: bool) -> None:
        """Seal in the segments ``numbers``. Raises ``OSError``.

        ``newest``: the last segment that is begun. Those before it are over.
        """
        known, left = self._segments, AT_ONCE
        self._segments = {n: known.get(n) or _Segment(n) for n in sorted(numbers, reverse=True)}
        failed = None
        for number, segment in self._segments.items():
            if left > 0 and not segment.done and number <= newest:
                try:
                    left -= self._seal_in(segment, number, left, over=writer_dead or number < newest)
                except (FileNotFoundError, UnfitFileError):
                    continue
                except OSError as error:
                    failed = error
        if failed is not None:
            raise failed

    def _seal_in(self, segment: _Segment, number: int, most: int, *, over: bool) -> int:
        descriptor = open_own(self._directory.segment(number), os.O_RDWR)
        try:
            return segment.seal(descriptor, most, over=over)
        finally:
            os.close(descriptor)


class _Segment:
    """How far a segment is sealed."""

    def __init__(self, number: int) -> None:
        self.done = False
        """Whether there will never be anything to seal in it again."""
        self._place = 0
        """Before it, there is nothing left to seal."""
        self._seq: int | None = 0 if number == 1 else None
        """The number of the record before that place, if it is known."""
        self._begun = 0
        """Before it, something was seen of every frame."""
        self._begun_at = 0.0
        self._layouts = KnownLayouts()
        self._layout: Layout | None = None
        """That of the last sample."""
        self._budget = SearchBudget()
        self._descriptor = -1

    def seal(self, descriptor: int, most: int, *, over: bool) -> int:
        """Seal what may be, in ``most`` bytes or a step more. Returns how many bytes were looked at."""
        self._descriptor = descriptor
        begin, size = self._place, os.fstat(descriptor).st_size
        settled = time.monotonic() - self._begun_at >= SETTLED_AFTER
        until = size if over else self._begun if settled else begin
        while self._place < until and self._place - begin < most:
            passed = self._step(until, size, over=over)
            self._place += passed
            if not passed:
                break
        else:
            self.done = over and self._place >= size
        if settled and not over:
            self._note_begun(most)
        return self._place - begin

    def _note_begun(self, most: int) -> None:
        """See how far something was written. The frames before that are filled: one follows the other."""
        self._begun = self._place
        while self._begun - self._place < most:
            data = read_at(self._descriptor, _STEP, self._begun).rstrip(b"\0")
            self._begun += len(data)
            if len(data) < _STEP:
                break
        self._begun_at = time.monotonic()

    def _step(self, until: int, size: int, *, over: bool) -> int:
        """Seal the row of whole frames at the place. Returns how many bytes to go on."""
        data = read_at(self._descriptor, _STEP, self._place)
        wanted = bytes_wanted(data, 0)
        if _STEP < wanted <= min(size - self._place, self._budget.left):
            self._budget.left -= wanted
            data = read_at(self._descriptor, wanted, self._place)
        end, unsealed = self._row(data, until - self._place, size, over=over)
        if unsealed:
            first, last = unsealed[0][0], unsealed[-1][1]
            frames = bytearray(data[first:last])
            for start, behind in unsealed:
                seal(frames, start - first, behind - start)
            write_all(self._descriptor, bytes(frames), self._place + first)
        return end or self._behind_damage(data, size, over=over)

    def _row(self, data: bytes, until: int, size: int, *, over: bool) -> tuple[int, list[tuple[int, int]]]:
        """Where the row of whole frames ends, and the start and end of each that is to be sealed."""
        place, unsealed = 0, []
        while place < until:
            end = self._usual_end(data, place)
            if end is None:
                frame = self._unsealed(data, place, self._seq, size, over=over)
                end = None if frame is None else frame.end
            if end is not None:
                if not (over or STRONG_ORDER or end <= until):
                    break
                unsealed.append((place, end))
                self._seq = seq_of(data[place:end])
            else:
                frame = read_frame(data, place)
                if frame is None:
                    break
                self._note_sealed(frame.payload)
                end = frame.end
            place = end
        return place, unsealed

    def _usual_end(self, data: bytes, place: int) -> int | None:
        """Where the sample at ``place`` ends, if it has the layout of the one before and is to be sealed."""
        if self._layout is None or self._seq is None:
            return None
        return self._layout.unsealed_end(data, place, self._seq + 1)

    def _unsealed(
        self, data: bytes, place: int, before: int | None, size: int, *, over: bool
    ) -> Frame | None:
        """The sample at ``place`` that may be sealed, or None if none is there."""
        frame = read_unsealed(data, place)
        if frame is None:
            return None
        number = layout_number(frame.payload) or 0
        layout = self._layouts.get(number) or self._layouts.find(
            number, self._descriptor, self._place + place, size=size, over=over
        )
        if layout is None or layout.length != len(frame.payload):
            return None
        self._layout = layout
        seq = seq_of(frame.payload)
        due = seq == before + 1 if before is not None else following_seq(frame, data) == seq + 1
        return frame if due else None

    def _note_sealed(self, payload: bytes) -> None:
        if layout_number(payload) is not None:
            self._seq = seq_of(payload)
        elif not self._layouts.learn(payload):
            record = decode_record(payload)
            self._seq = None if record is None else record.seq

    def _behind_damage(self, data: bytes, size: int, *, over: bool) -> int:
        """How far the next frame is, where none is whole at the place. 0 where it may yet be one."""
        if not over and is_empty(data[:HEADER_SIZE]):
            return 0
        found = None if is_empty(data) else self._find(data, size, over=over)
        if found is None and not over:
            return 0
        self._seq = None
        if found is not None:
            return found
        at_end = self._place + len(data) >= size
        return len(data) if at_end else (len(data) - LARGEST_FRAME) & -ALIGNMENT  # a sample may begin there

    def _find(self, data: bytes, size: int, *, over: bool) -> int | None:
        def whole(data: bytes, place: int) -> Frame | None:
            return self._unsealed(data, place, None, size, over=over) or read_frame(data, place)

        return find_frame(data, ALIGNMENT, self._budget, whole)
