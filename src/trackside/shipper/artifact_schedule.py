"""Which of the artifacts that wait is delivered next. Pure.

Invariants:

* Those of one place go in the order they were logged in, so that the newest is what stays.
* One that has to be tried again holds up no other place.
* One with the policy ``latest`` or ``end`` is left out once a newer one of the same place waits. One that is
  being delivered is not.
* Those with the policy ``end`` wait for the run's end.
"""

from __future__ import annotations

import heapq
from collections import deque
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from trackside.journal.format import ArtifactRecord

Place: TypeAlias = tuple[str, str]

_PATHS = {"file", "folder", "text", "document", "table"}
"""Kinds whose place is a path. Others have places of their own."""


class ArtifactSchedule:
    """The artifacts that wait. Times are those of one clock, in seconds."""

    def __init__(self) -> None:
        self.current: ArtifactRecord | None = None
        """The one that is being delivered."""
        self.ended = False
        self._superseded = False
        """Whether a newer one cancels the current one, should it have to be tried again."""
        self._lines: dict[tuple[Place, int | None], deque[ArtifactRecord]] = {}
        self._replaceable: dict[Place, list[ArtifactRecord]] = {}
        self._due: dict[int, float] = {}
        """Of those at the head of their line."""
        self._heap: list[tuple[float, int, ArtifactRecord]] = []
        self._late: dict[int, ArtifactRecord] = {}

    def add(self, record: ArtifactRecord, now: float) -> list[ArtifactRecord]:
        """Have ``record`` wait. Returns those that need not be delivered any more."""
        place = _place_of(record)
        older = self._replaceable.pop(place, [])
        self._superseded = self._superseded or any(other is self.current for other in older)
        older = [other for other in older if other is not self.current]
        for other in older:
            self._leave(other, now)
        if record.policy != "now":
            self._replaceable[place] = [record]
        line = self._lines.setdefault(_line_of(record), deque())
        line.append(record)
        if len(line) == 1:
            self._offer(record, now)
        return older

    def next(self, now: float) -> ArtifactRecord | float | None:
        """The next one, which becomes :attr:`current`, or the seconds until one is due. None without any."""
        while self._heap:
            due, seq, record = self._heap[0]
            if self._due.get(seq) != due:  # left meanwhile, or due at another time
                heapq.heappop(self._heap)
            elif due > now:
                return due - now
            else:
                heapq.heappop(self._heap)
                del self._due[seq]
                self.current, self._superseded = record, False
                return record
        return None

    def done(self, now: float) -> None:
        """The current one is settled."""
        record, self.current = self.current, None
        assert record is not None  # noqa: S101 - it was given out by `next`
        self._leave(record, now)

    def postpone(self, until: float) -> bool:
        """Try the current one again at ``until``. False if a newer one has come in its place meanwhile."""
        record = self.current
        assert record is not None  # noqa: S101 - it was given out by `next`
        if self._superseded:
            self.done(until)
            return False
        self.current = None
        self._offer(record, until)
        return True

    def hurry(self, now: float) -> None:
        """Whatever waits for a time is due now."""
        for _, seq, record in list(self._heap):
            if self._due.get(seq, now) > now:
                self._offer(record, now)

    def end(self, now: float) -> None:
        """The run has ended."""
        self.ended = True
        late, self._late = self._late, {}
        for record in late.values():
            self._offer(record, now)

    def _offer(self, record: ArtifactRecord, due: float) -> None:
        if record.policy == "end" and not self.ended:
            self._late[record.seq] = record
            return
        self._due[record.seq] = due
        heapq.heappush(self._heap, (due, record.seq, record))

    def _leave(self, record: ArtifactRecord, now: float) -> None:
        self._due.pop(record.seq, None)
        self._late.pop(record.seq, None)
        others = self._replaceable.get(_place_of(record))
        if others is not None and record in others:
            del self._replaceable[_place_of(record)]
        key = _line_of(record)
        line = self._lines[key]
        was_head = line[0] is record
        line.remove(record)
        if not line:
            del self._lines[key]
        elif was_head:
            self._offer(line[0], now)


def _place_of(record: ArtifactRecord) -> Place:
    return ("" if record.kind in _PATHS else record.kind), record.place


def _line_of(record: ArtifactRecord) -> tuple[Place, int | None]:
    """What is delivered in order. Of what has a place for each step, those of different steps need not be."""
    return _place_of(record), record.step if record.policy == "now" else None
