"""The layouts of a journal, as its reader comes to know them.

Invariants:

* A layout is known from the place on where the reader has met it. A number that is not known is looked for in
  the whole segment: a reader may begin behind the layout, and the first copy of it may be damaged.
* A number names one layout for the whole journal, so what is known stays known in the segments that follow.
  The first one that was met counts.
* What looking costs has a budget for each segment. Bytes made to exhaust it cost records that are counted as
  lost.
"""

from __future__ import annotations

from trackside.journal.blocks import is_empty, read_at
from trackside.journal.format import ALIGNMENT, HEADER_SIZE, SearchBudget, bytes_wanted, read_frame
from trackside.journal.layouts import LAYOUT_BEGINS, Layout, decode_layout

BUDGET = 1 << 28
"""Bytes: a few times the largest segment."""

_STEP = 1 << 20
_AGAIN = 1 << 16
"""Bytes that a live segment has grown by before a number is looked for in it again."""


class KnownLayouts:
    """Layouts by their number."""

    def __init__(self) -> None:
        self._known: dict[int, Layout] = {}
        self.enter_segment()

    def enter_segment(self) -> None:
        """Look for what is not known in another segment from now on."""
        self._complete = False
        self._looked_at: dict[int, int] = {}
        self._budget = SearchBudget(BUDGET)

    def learn(self, payload: bytes) -> bool:
        """Whether ``payload``, which is whole, describes a layout. It is known from now on."""
        layout = decode_layout(payload)
        if layout is not None:
            self._known.setdefault(layout.number, layout)
        return layout is not None

    def get(self, number: int) -> Layout | None:
        """The layout ``number``, if it is known."""
        return self._known.get(number)

    def is_worth_a_look(self, number: int, place: int) -> bool:
        """Whether :meth:`find` may find the layout ``number``, on behalf of a sample at ``place``."""
        before = self._looked_at.get(number)
        return not self._complete and (before is None or place - before >= _AGAIN) and self._budget.left > 0

    def find(self, number: int, descriptor: int, place: int, *, size: int, over: bool) -> Layout | None:
        """Look for the layout ``number`` in the segment that is open, on behalf of a sample at ``place``.

        ``size``: how far to look. ``over``: whether the segment will not grow any more.
        """
        if self.is_worth_a_look(number, place):
            self._looked_at[number] = place
            self._look_through(descriptor, size, stop_behind=size if over else place)
            self._complete = over
        return self._known.get(number)

    def _look_through(self, descriptor: int, size: int, *, stop_behind: int) -> None:
        """Learn from every whole layout record, up to the first step behind a place with nothing in it."""
        offset = 0
        while offset < size and self._budget.left > 0:
            data = read_at(descriptor, min(_STEP, size - offset), offset)
            self._budget.left -= _STEP
            self._look_at(descriptor, data, offset)
            if len(data) < _STEP or (offset > stop_behind and is_empty(data)):
                return
            offset += _STEP - HEADER_SIZE - ALIGNMENT  # a record may begin at the very end

    def _look_at(self, descriptor: int, data: bytes, base: int) -> None:
        found = data.find(LAYOUT_BEGINS, HEADER_SIZE)
        while found >= 0 and self._budget.left > 0:
            start = found - HEADER_SIZE
            if (base + start) % ALIGNMENT == 0:
                self._try(descriptor, data, start, base)
            found = data.find(LAYOUT_BEGINS, found + 1)

    def _try(self, descriptor: int, data: bytes, start: int, base: int) -> None:
        wanted = bytes_wanted(data, start)
        self._budget.left -= wanted
        if self._budget.left < 0:
            return
        if start + wanted > len(data):
            data, start = read_at(descriptor, wanted, base + start), 0
        frame = read_frame(data, start)
        if frame is not None:
            self.learn(frame.payload)
