"""Samples whose names were journaled before: a layout names the values, and each sample is one struct.

A *layout* record (MessagePack) gives a number to a prefix and a row of names. A *sample* record of that
layout is a frame like any other, but of fixed size and without MessagePack::

    length u32 | check u32 | word u32 | timestamp_ms i64 | step i64 | [epoch f64] | values f64... | seq u32

``word`` is the byte C1, which begins no MessagePack, the layout's number, and the byte 53. Pure: no clock, no
disk.

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

from trackside.journal.format import FRAME_HEADER, HEADER_SIZE, MetricsRecord

UNSEALED = 0x6C617365
"""Stands for the checksum of a sample until the shipper seals it."""

LARGEST_FRAME = 4096
LAST_NUMBER = (1 << 16) - 1
LAST_SEQ = (1 << 32) - 1
"""A record with a larger number has no room for it here: it is written with MessagePack."""

_FIRST, _LAST = 0xC1, 0x53
_FIXED = 24
"""Bytes of a payload beside its values: word, time, step, seq."""

_WORD = struct.Struct("<BHB")
_TIMES = struct.Struct("<qq")
_TIMES_AT = HEADER_SIZE + _WORD.size
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

    __slots__ = ("_values", "frame_size", "has_epoch", "names", "number", "pack_into", "prefix", "word")

    def __init__(self, record: LayoutRecord) -> None:
        if not fits(len(record.names), has_epoch=record.has_epoch):
            raise ValueError(f"{len(record.names)} values are too many for a sample")
        self.number = record.number
        self.prefix = record.prefix
        self.has_epoch = record.has_epoch
        self.names = record.names
        self.word = word_of(record.number)
        shape = struct.Struct(f"<IIIqq{len(record.names) + record.has_epoch}dI")
        self.frame_size = shape.size
        """Bytes of a frame, which ends at a multiple of 8 without padding."""
        self.pack_into = shape.pack_into
        """Takes buffer, offset, length, ``UNSEALED``, word, timestamp_ms, step, [epoch,] the values, seq."""
        self._values = struct.Struct(f"<{len(record.names) + record.has_epoch}d").unpack_from

    @property
    def length(self) -> int:
        """Bytes of a payload: the first word of each frame."""
        return self.frame_size - HEADER_SIZE

    def record_at(self, data: bytes, offset: int) -> MetricsRecord:
        """The sample whose frame is at ``offset``, which has the length of this layout."""
        timestamp_ms, step = _TIMES.unpack_from(data, offset + _TIMES_AT)
        values = self._values(data, offset + _VALUES_AT)
        epoch = values[0] if self.has_epoch else None
        metrics = dict(zip(self.names, values[1:] if self.has_epoch else values, strict=True))
        seq = seq_before(data, offset + self.frame_size)
        return MetricsRecord(seq, timestamp_ms, step, epoch, self.prefix, metrics)


def fits(values: int, *, has_epoch: bool) -> bool:
    """Whether a sample of so many values may be written as one."""
    return HEADER_SIZE + _FIXED + 8 * (values + has_epoch) <= LARGEST_FRAME


def word_of(number: int) -> int:
    """The word that marks the samples of layout ``number``."""
    return _FIRST | number << 8 | _LAST << 24


def layout_number(data: bytes, payload: int) -> int | None:
    """The layout of the sample whose payload begins at ``payload``, or None if no sample begins there."""
    if len(data) - payload < _WORD.size:
        return None
    first, number, last = _WORD.unpack_from(data, payload)
    return number if (first, last) == (_FIRST, _LAST) else None


def unsealed_size(data: bytes, offset: int) -> int | None:
    """The size of the unsealed frame at ``offset``, or None if no unsealed frame is there and whole.

    That it has the length of its layout, and the number that is due, is for the caller to see.
    """
    if len(data) - offset < HEADER_SIZE:
        return None
    length, check = FRAME_HEADER.unpack_from(data, offset)
    size: int = HEADER_SIZE + length
    if (
        check != UNSEALED
        or length < _FIXED
        or length % 8
        or size > LARGEST_FRAME
        or len(data) - offset < size
    ):
        return None
    return size if layout_number(data, offset + HEADER_SIZE) and seq_before(data, offset + size) else None


def seq_before(data: bytes, end: int) -> int:
    """The number of the sample whose frame ends at ``end``."""
    seq: int = _SEQ.unpack_from(data, end - _SEQ.size)[0]
    return seq


def seal(frames: bytearray, offset: int, size: int) -> None:
    """Give the frame of ``size`` bytes at ``offset`` its checksum."""
    payload = memoryview(frames)[offset + HEADER_SIZE : offset + size]
    _CHECK.pack_into(frames, offset + HEADER_SIZE - _CHECK.size, zlib.crc32(payload, len(payload)))


_decoder = msgspec.msgpack.Decoder(LayoutRecord)
_BEGINS = b"\x95\xa1n"


def begins_layout(payload: bytes) -> bool:
    """Whether ``payload`` seems to be a :class:`LayoutRecord`."""
    return payload.startswith(_BEGINS)


def decode_layout(payload: bytes) -> Layout | None:
    """The layout that ``payload`` describes, or None if it describes none."""
    try:
        return Layout(_decoder.decode(payload))
    except (ValueError, msgspec.MsgspecError, RecursionError):
        return None
