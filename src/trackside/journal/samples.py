"""Samples under names that the journal knows: one store into the mapping, and little else.

Behind a training step the caches are empty, and what a log costs is the memory it touches. So the names of
a sample are journaled once, as a layout (:mod:`trackside.journal.layouts`), and a sample with the same names
is a single ``pack_into`` of header, time, step, values and number. It takes no copy of the dict, no
MessagePack, no checksum and no lock. Whatever is not that simple is refused, and takes
:meth:`JournalWriter.append`.

Invariants:

* A sample that is refused has changed nothing and counted nothing. What is written is what
  :func:`trackside.coerce.metrics.to_float_metrics` would give.
* A place is reserved, then filled, and CPython lets nothing in between: no thread, no signal handler, no
  exception and no finaliser (see :mod:`trackside.journal.writer`). Whatever could raise, run Python code or
  make an object that the garbage collector tracks comes before the comparison that decides. The number,
  which publishes the frame, is its last word and is stored last.
* A trace or profile function, such as a debugger's, does come in between. If it raises, the place is given
  back, in which nothing is written yet. If another thread has gone on behind it by then, it is filled after
  all.
* A sample follows a whole copy of its layout in its own segment.
* A value on an accelerator is never read, because that would wait for all the work queued there.
* Names that never come again fill neither the journal nor memory.
"""

from __future__ import annotations

import itertools
import sys
from mmap import mmap
from operator import attrgetter
from time import time_ns
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from trackside.coerce import floats as single
from trackside.journal.format import MetricsRecord, encode
from trackside.journal.layouts import LAST_SEQ, Layout, LayoutRecord, fits
from trackside.journal.segment import STRETCH

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trackside.journal.segment import Segment
    from trackside.journal.writer import JournalWriter

LAYOUTS = 256
"""Sets of names that are journaled at most. A program has a few: training, validation, an epoch's summary."""

CANDIDATES = 16
"""Sets of names seen once that are remembered, to know them when they come again."""

FIRST_REPEAT = 1 << 12
LAST_REPEAT = 1 << 20
"""Bytes behind a layout's first copy in a segment after which the second follows, and behind later ones."""

_ReadAll: TypeAlias = "Callable[[list[Any]], list[float]]"

_GROWTH = 16
_ALWAYS = 1 << 63
_NUMBERS_LEFT = LAST_SEQ - STRETCH
"""No layout is made ready above it: numbers must not run out before ``until``."""


class KnownLayout(Layout):
    """A layout that this process writes."""

    __slots__ = ("_repeat", "_repeat_at", "payload", "segment", "until")

    def __init__(self, record: LayoutRecord) -> None:
        super().__init__(record)
        self.payload = encode(record)
        self.segment: Segment | None = None
        """The segment that has a copy of the layout."""
        self.until = 0
        """Where a sample may end at most: there the segment wants a look, or a further copy is due."""
        self._repeat = self._repeat_at = 0

    def make_ready(self, writer: JournalWriter) -> None:
        """Let samples go in behind a copy of the layout, if that is easy to have."""
        segment = writer.segment
        if writer.last_seq > _NUMBERS_LEFT or type(segment.buffer) is not mmap:
            return
        if self.segment is segment and segment.offset + self.frame_size <= self._repeat_at:
            until = min(segment.limit, self._repeat_at)
            if self.segment is segment:  # another thread may have made it ready in the next one meanwhile
                self.until = until
            return
        place = writer.put_unnumbered(self.payload)
        if place is None:
            return
        is_first = self.segment is not place.segment
        self._repeat = FIRST_REPEAT if is_first else min(_GROWTH * self._repeat, LAST_REPEAT)
        self._repeat_at = place.offset + self._repeat
        until = min(place.segment.limit, self._repeat_at)
        self.segment = place.segment  # no call between these two: they belong together
        self.until = until


class _KnownNames(NamedTuple):
    """A layout, and how its samples are recognised and read. One object, because threads replace it."""

    names: list[str]
    kinds: list[type]
    """The types of the last values, an epoch's first."""
    prefix: str | None
    read: _ReadAll | None
    """What makes floats of values of these types. None if they are floats."""
    layout: KnownLayout


class Samples:
    """Writes samples into ``writer``'s journal, from any thread."""

    __slots__ = (
        "_candidates",
        "_known",
        "_latest",
        "_numbers",
        "_writer",
        "last_step",
        "quiet_from",
        "quiet_until",
    )

    def __init__(self, writer: JournalWriter) -> None:
        self._writer = writer
        self.last_step = -1
        """The step of the last sample."""
        self.quiet_from = 0
        self.quiet_until = _ALWAYS
        """Nanoseconds by the time of day between which :meth:`log` may be called without a timestamp: the
        caller has nothing else to do then. A clock that is set back ends this as well."""
        # A plain tuple, which takes half as long to unpack. No dict has these names.
        self._latest: tuple[list[str], list[type], str | None, _ReadAll | None, KnownLayout] = (
            ["", ""],
            [],
            None,
            None,
            KnownLayout(LayoutRecord(0, None, False, ())),
        )
        self._known: dict[tuple[Any, ...], _KnownNames] = {}
        self._candidates: dict[tuple[Any, ...], None] = {}
        self._numbers = itertools.count(1)

    def log(  # noqa: C901, PLR0911, PLR0912 - in one piece: a call costs as much as a tenth of it
        self,
        metrics: Mapping[str, Any],
        step: Any,
        epoch: Any = None,
        prefix: str | None = None,
        time: int | None = None,
    ) -> bool:
        """Keep a sample, of this moment by default. Returns False if it has to take the ordinary way.

        ``time`` is in nanoseconds since 1970, and has 64 bits at most.
        """
        try:
            if time is None:
                time = time_ns()
                if not self.quiet_from <= time < self.quiet_until:
                    return False
            if type(metrics) is not dict or type(step) is not int:
                return False
            # Literals, and below `is` before `!=`: behind a step, what is looked up or called is cold.
            if not -0x8000_0000_0000_0000 <= step <= 0x7FFF_FFFF_FFFF_FFFF:  # noqa: PLR2004
                return False
            view = metrics.values()
            # No call between the copies of names and values: another thread may be filling the dict.
            names = [*metrics]
            if epoch is None:
                values = [*view]
            else:
                values = [epoch, *view]
                if type(epoch) is int:
                    values[0] = float(epoch)
            row, kinds, its_prefix, read, layout = self._latest
            if (
                names != row
                or [*map(type, values)] != kinds
                or (prefix is not its_prefix and prefix != its_prefix)
            ):
                found = self._find((prefix, epoch is not None, *names), values)
                if found is None:
                    return False
                read, layout = found.read, found.layout
            if read is not None:
                values = read(values)
            writer = self._writer
            segment, seq = writer.segment, writer.last_seq
            start = segment.offset
            end = start + layout.frame_size
            following = seq + 1
            frame = (segment.buffer, start, layout.head, time, step, *values, following)
            # No call from the comparison to pack_into, and none in it: see above.
            if (
                layout.segment is segment
                and end <= layout.until
                and writer.last_seq is seq
                and segment.offset is start
                and writer.segment is segment
                and writer.unfinished is None
            ):
                segment.offset = end
                writer.last_seq = following
                try:
                    layout.pack_into(*frame)
                except BaseException:  # a trace function's: nothing in it can raise
                    if segment.offset is end and writer.last_seq is following:
                        segment.offset = start
                        writer.last_seq = seq
                        raise
                    layout.pack_into(*frame)  # another thread has gone on behind it, and a reader waits here
                self.last_step = step
                return True
            layout.make_ready(writer)
        except Exception:
            return False
        return False

    def learn(self, record: MetricsRecord) -> None:
        """Take note of the names of ``record``, whose metrics were numbers under text. Raises nothing."""
        prefix, epoch, names = record.prefix, record.epoch, [*record.metrics]
        key = (prefix, epoch is not None, *names)
        if key in self._known or len(self._known) >= LAYOUTS or not CAN_WRITE:
            return
        if key not in self._candidates:
            self._remember(key)
        elif fits(len(names), has_epoch=epoch is not None):
            self._candidates.pop(key, None)
            layout = KnownLayout(LayoutRecord(next(self._numbers), prefix, epoch is not None, tuple(names)))
            self._known[key] = _KnownNames(names, [], prefix, None, layout)

    def _remember(self, key: tuple[Any, ...]) -> None:
        self._candidates[key] = None
        for oldest in [*self._candidates][:-CANDIDATES]:
            self._candidates.pop(oldest, None)

    def _find(self, key: tuple[Any, ...], values: list[Any]) -> _KnownNames | None:
        """What is known of these names, or None if that is nothing, or the values are not quickly read."""
        known = self._known.get(key)
        if known is None:
            return None
        kinds = [*map(type, values)]
        if kinds != known.kinds:
            types = {*kinds}
            if not types <= {float, *single.QUICK}:
                return None
            known = self._known[key] = known._replace(kinds=kinds, read=_reader_of(types))
        self._latest = (*known,)
        return known


def _reader_of(types: set[type]) -> _ReadAll | None:
    if types == {float}:
        return None
    if types == {single.tensor_type}:
        return _read_tensors
    plain = all(single.QUICK.get(kind, float) is float for kind in types)
    return _read_plain if plain else _read_quickly


def _read_plain(values: list[Any]) -> list[float]:
    """Values of types that ``float`` itself reads."""
    return [*map(float, values)]


def _read_tensors(values: list[Any]) -> list[float]:
    """As :func:`_read_quickly`, for nothing but ``torch.Tensor``, in half the time."""
    if not single.on_host_only and False in map(_is_on_host, values):
        raise single.OnDeviceError
    return [*map(float, map(single.tensor_type.item, values))]  # type: ignore[union-attr]


_is_on_host = attrgetter("is_cpu")


def _read_quickly(values: list[Any]) -> list[float]:
    """Values of types with a quick reader. Raises what that raises, for a value on an accelerator as well."""
    quick = single.QUICK
    return [value if type(value) is float else float(quick[type(value)](value)) for value in values]


CAN_WRITE: bool = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether the second invariant holds: an interpreter without the GIL lets threads in anywhere."""
