"""Samples whose names were journaled before: a layout names the values, and each sample is one struct.

A *layout* record (MessagePack) gives a number to a prefix and a row of names. A *sample* record of that
layout is a frame like any other, but of fixed size and without MessagePack::

    length u32 | check u32 | word u32 | time i64 | step i64 | [epoch f64] | values f64... | seq u32

``word`` is the byte C1, which begins no MessagePack, the layout's number, and the byte 53. ``time`` is in
nanoseconds since 1970: a division would be a tenth of a log. Pure: no clock, no disk.

Invariants:

* The training process writes :data:`UNSEALED` where the checksum belongs, and ``seq``, which is not 0, last
  of all. The shipper replaces the mark by the checksum (:mod:`trackside.journal.sealing`).
* Header and tail of a sample lie at most :data:`LARGEST_FRAME` apart, so at most one border between two pages
  is between them. A page that never reached the disk is zero, and takes one of them with it.
* A number names one layout for the whole journal.
"""

from __future__ import annotations

import struct
import zlib
from typing import Annotated

import msgspec

from trackside.journal.format import (
    ALIGNMENT,
    FRAME_HEADER,
    HEADER_SIZE,
    Frame,
    MetricsRecord,
    decode_record,
    read_frame,
)

UNSEALED = 0x6C617365
"""Stands for the checksum of a sample until the shipper seals it."""

LARGEST_FRAME = 4096
LAST_NUMBER = (1 << 16) - 1
MILLISECOND = 1_000_000
"""Nanoseconds."""

LAST_SEQ = (1 << 32) - 1
"""A record with a larger number has no room for it here: it is written with MessagePack."""

_FIRST, _LAST = 0xC1, 0x53
_FIXED = 24
"""Bytes of a payload beside its values: word, time, step, seq."""

_HEAD = struct.Struct("<III")
_WORD = struct.Struct("<BHB")
_TIMES = struct.Struct("<qq")
_TIMES_AT = _WORD.size
_VALUES_AT = _TIMES_AT + _TIMES.size
_SEQ = struct.Struct("<I")
_CHECK = struct.Struct("<I")


class LayoutRecord(msgspec.Struct, tag="n", array_like=True, frozen=True):
    """The names of a row of values. It has no number of its own in the journal: losing it loses no record."""

    number: Annotated[int, msgspec.Meta(ge=1, le=LAST_NUMBER)]
    prefix: str | None
    has_epoch: bool
    names: tuple[str, ...]


class Layout:
    """How the samples of one :class:`LayoutRecord` lie in a segment.

    Raises ``ValueError`` for a record whose samples would be too large for one.
    """

    __slots__ = (
        "_values",
        "frame_size",
        "has_epoch",
        "head",
        "length",
        "names",
        "number",
        "pack_into",
        "prefix",
        "word",
    )

    def __init__(self, record: LayoutRecord) -> None:
        if not fits(len(record.names), has_epoch=record.has_epoch):
            raise ValueError(f"{len(record.names)} values are too many for a sample")
        self.number = record.number
        self.prefix = record.prefix
        self.has_epoch = record.has_epoch
        self.names = record.names
        self.word = word_of(record.number)
        shape = struct.Struct(f"<{_HEAD.size}sqq{len(record.names) + record.has_epoch}dI")
        self.frame_size = shape.size
        """Bytes of a frame, which ends at a multiple of 8 without padding."""
        self.length = shape.size - HEADER_SIZE
        """Bytes of a payload: the first word of each frame."""
        self.pack_into = shape.pack_into
        """Takes buffer, offset, :attr:`head`, time, step, [epoch,] the values, seq. Writes a whole frame."""
        self.head = _HEAD.pack(self.length, UNSEALED, self.word)
        """The first bytes of a frame that is not sealed: length, mark and word. They are one item to pack."""
        self._values = struct.Struct(f"<{len(record.names) + record.has_epoch}d").unpack_from

    def unsealed_end(self, data: bytes, offset: int, seq: int) -> int | None:
        """Where the unsealed sample ``seq`` of this layout at ``offset`` ends, or None if it is not there."""
        end = offset + self.frame_size
        if data[offset : offset + _HEAD.size] != self.head or end > len(data):
            return None
        return end if _SEQ.unpack_from(data, end - _SEQ.size)[0] == seq else None

    def record_at(self, data: bytes, offset: int) -> MetricsRecord | None:
        """The whole sample of this layout at ``offset``, sealed or not, or None if none is there."""
        end = offset + self.frame_size
        if not 0 <= offset <= len(data) - self.frame_size:
            return None
        length, check, word = _HEAD.unpack_from(data, offset)
        if length != self.length or word != self.word:
            return None
        payload = data[offset + HEADER_SIZE : end]
        is_whole = seq_of(payload) if check == UNSEALED else zlib.crc32(payload, length) == check
        return self.record_of(payload) if is_whole else None

    def record_of(self, payload: bytes) -> MetricsRecord:
        """The sample in ``payload``, which has the length of this layout."""
        time, step = _TIMES.unpack_from(payload, _TIMES_AT)
        values: tuple[float, ...] = self._values(payload, _VALUES_AT)
        seq, epoch = seq_of(payload), None
        if self.has_epoch:
            epoch, values = values[0], values[1:]
        return MetricsRecord(
            seq, time // MILLISECOND, step, epoch, self.prefix, dict(zip(self.names, values, strict=True))
        )


def fits(values: int, *, has_epoch: bool) -> bool:
    """Whether a sample of so many values may be written as one."""
    return HEADER_SIZE + _FIXED + 8 * (values + has_epoch) <= LARGEST_FRAME


def word_of(number: int) -> int:
    """The word that marks the samples of layout ``number``."""
    return _FIRST | number << 8 | _LAST << 24


def layout_number(payload: bytes) -> int | None:
    """The layout of the sample in ``payload``, or None if it is no sample."""
    if len(payload) < _FIXED:
        return None
    first, number, last = _WORD.unpack_from(payload)
    return number if first == _FIRST and last == _LAST else None


def read_unsealed(data: bytes, offset: int) -> Frame | None:
    """The unsealed frame at ``offset``, or None if no whole one is there.

    That it has the length of its layout, and the number that is due, is for the caller to see.
    """
    if len(data) - offset < HEADER_SIZE + _FIXED:
        return None
    length, check = FRAME_HEADER.unpack_from(data, offset)
    if check != UNSEALED or length < _FIXED or length % ALIGNMENT:
        return None
    end = offset + HEADER_SIZE + length
    if end - offset > LARGEST_FRAME or end > len(data):
        return None
    payload = data[offset + HEADER_SIZE : end]
    return Frame(payload, end) if layout_number(payload) and seq_of(payload) else None


def seq_of(payload: bytes) -> int:
    """The number of the sample in ``payload``."""
    seq: int = _SEQ.unpack_from(payload, len(payload) - _SEQ.size)[0]
    return seq


def following_seq(frame: Frame, data: bytes) -> int | None:
    """The number of the record behind ``frame``, as far as one is there. Layouts have none."""
    following = read_unsealed(data, frame.end) or read_frame(data, frame.end)
    while following is not None and following.payload.startswith(LAYOUT_BEGINS):
        following = read_unsealed(data, following.end) or read_frame(data, following.end)
    if following is None:
        return None
    if layout_number(following.payload) is not None:
        return seq_of(following.payload)
    record = decode_record(following.payload)
    return None if record is None else record.seq


def seal(frames: bytearray, offset: int, size: int) -> None:
    """Give the frame of ``size`` bytes at ``offset`` its checksum."""
    payload = memoryview(frames)[offset + HEADER_SIZE : offset + size]
    _CHECK.pack_into(frames, offset + HEADER_SIZE - _CHECK.size, zlib.crc32(payload, len(payload)))


LAYOUT_BEGINS = b"\x95\xa1n"
"""The first bytes of a :class:`LayoutRecord`."""

_decoder = msgspec.msgpack.Decoder(LayoutRecord)


def decode_layout(payload: bytes) -> Layout | None:
    """The layout that ``payload`` describes, or None if it describes none."""
    try:
        return Layout(_decoder.decode(payload))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
