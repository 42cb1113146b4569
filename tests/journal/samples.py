"""Segments with samples, made by hand: as the training process writes them, and as the shipper seals them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import strategies as st

from tests.journal.tools import int64, records
from trackside.journal.format import Record, encode, frame_header, frame_size
from trackside.journal.layouts import MILLISECOND, Layout, LayoutRecord, seal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LAYOUTS = [
    LayoutRecord(1, None, False, ("loss",)),
    LayoutRecord(2, "val", True, ("loss", "acc")),
    LayoutRecord(3, "", False, tuple(f"m{n}" for n in range(10))),
    LayoutRecord(0xC153, None, True, ()),
]


def framed(payload: bytes) -> bytes:
    """The frame of a payload with a checksum."""
    return (frame_header(payload) + payload).ljust(frame_size(len(payload)), b"\0")


def layout_frame(number: int) -> bytes:
    """The frame of layout ``number`` of :data:`LAYOUTS`, counted from 0."""
    return framed(encode(LAYOUTS[number]))


def sample_frame(
    number: int, seq: int, values: tuple[float, ...] = (), *, step: int = 0, timestamp_ms: int = 1
) -> bytes:
    """An unsealed sample. Values that are not given are made up from ``seq``."""
    layout = Layout(LAYOUTS[number])
    wanted = len(layout.names) + layout.has_epoch
    made = values or tuple(seq + n / 16 for n in range(wanted))
    buffer = bytearray(layout.frame_size)
    layout.pack_into(buffer, 0, layout.head, timestamp_ms * MILLISECOND, step, *made, seq)
    return bytes(buffer)


def sealed(frame: bytes) -> bytes:
    """``frame`` with its checksum."""
    frames = bytearray(frame)
    seal(frames, 0, len(frames))
    return bytes(frames)


class SegmentMaker:
    """Makes a segment frame by frame. ``places`` says which record each of them has, by ``seq``.

    Layouts are there once, or again behind each ``repeat`` bytes.
    """

    def __init__(self, *, seal: bool, repeat: int = 1 << 30) -> None:
        self.data = bytearray()
        self.records: list[Record] = []
        self.places: list[tuple[int, int, int | None]] = []
        self._seal = seal
        self._repeat = repeat
        self._layouts: dict[int, int] = {}

    def add(self, record: Record) -> None:
        """A record in MessagePack."""
        record.seq = len(self.records) + 1
        self._put(framed(encode(record)), record)

    def add_sample(
        self, number: int, values: tuple[float, ...] = (), *, step: int = 0, timestamp_ms: int = 1
    ) -> None:
        """A sample of a layout, and the layout before it where it is due."""
        if len(self.data) - self._layouts.get(number, -self._repeat) >= self._repeat:
            self._layouts[number] = len(self.data)
            self._put(layout_frame(number), None)
        seq = len(self.records) + 1
        frame = sample_frame(number, seq, values, step=step, timestamp_ms=timestamp_ms)
        record = Layout(LAYOUTS[number]).record_of(frame[8:])
        self._put(sealed(frame) if self._seal else frame, record)

    def _put(self, frame: bytes, record: Record | None) -> None:
        start = len(self.data)
        self.data += frame
        self.places.append((start, len(self.data), None if record is None else record.seq))
        if record is not None:
            self.records.append(record)

    def touched(self, first: int, last: int) -> set[int | None]:
        """The records with a byte in ``first`` to ``last``. None stands for a layout."""
        return {seq for start, end, seq in self.places if start <= last and first < end}

    def write(self, path: Path, *, unused: int = 64) -> None:
        """Write the segment, with unused space at its end."""
        path.write_bytes(bytes(self.data) + bytes(unused))


_times = st.integers(-(2**63) // MILLISECOND + 1, (2**63 - 1) // MILLISECOND)
_sample = st.tuples(st.integers(0, len(LAYOUTS) - 1), _times, int64, st.lists(st.floats(), min_size=11))
rows = st.lists(records | _sample, min_size=1, max_size=12)
"""What goes into a segment, in order."""


def made_of(given_rows: Iterable[object], *, seal: bool, repeat: int = 1 << 30) -> SegmentMaker:
    """The segment of some :data:`rows`."""
    maker = SegmentMaker(seal=seal, repeat=repeat)
    for row in given_rows:
        if isinstance(row, tuple):
            number, timestamp_ms, step, values = row
            wanted = len(LAYOUTS[number].names) + LAYOUTS[number].has_epoch
            maker.add_sample(number, tuple(values[:wanted]), step=step, timestamp_ms=timestamp_ms)
        else:
            maker.add(row)  # type: ignore[arg-type]
    return maker


def seqs(found: Iterable[Record]) -> list[int]:
    """The numbers of records."""
    return [record.seq for record in found]
