from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.journal.tools import same
from trackside.journal.format import ALIGNMENT, MetricsRecord, encode, read_frame
from trackside.journal.layouts import (
    LARGEST_FRAME,
    LAST_NUMBER,
    LAYOUT_BEGINS,
    MILLISECOND,
    Layout,
    LayoutRecord,
    decode_layout,
    fits,
    layout_number,
    read_unsealed,
    seal,
    seq_of,
)

layout_records = st.builds(
    LayoutRecord,
    st.integers(1, LAST_NUMBER),
    st.none() | st.text(max_size=5),
    st.booleans(),
    st.lists(st.text(max_size=8), max_size=12, unique=True).map(tuple),
)
numbers = st.integers(-(2**63), 2**63 - 1)


def frame_of(layout: Layout, values: list[float], *, seq: int = 1, time: int = 2, step: int = 3) -> bytes:
    """An unsealed frame, as the training process writes it. The epoch is the first of ``values``, if any."""
    buffer = bytearray(layout.frame_size)
    layout.pack_into(buffer, 0, layout.head, time, step, *values, seq)
    return bytes(buffer)


@given(layout_records, numbers, numbers, st.integers(1, 2**32 - 1), st.data())
def test_a_sample_comes_back(
    record: LayoutRecord, time: int, step: int, seq: int, data: st.DataObject
) -> None:
    """Under the names of its layout, with every value as it was, NaN and infinities among them."""
    layout = decode_layout(encode(record))
    assert layout is not None
    assert encode(record).startswith(LAYOUT_BEGINS)
    values = [data.draw(st.floats()) for _ in range(len(record.names) + record.has_epoch)]
    frame = frame_of(layout, values, seq=seq, time=time, step=step)
    found = read_unsealed(frame, 0)
    assert found == (frame[8:], layout.frame_size)
    assert len(frame) == layout.frame_size
    assert len(frame) % ALIGNMENT == 0
    assert (layout_number(frame[8:]), seq_of(frame[8:])) == (record.number, seq)
    epoch, rest = (values[0], values[1:]) if record.has_epoch else (None, values)
    expected = MetricsRecord(
        seq, time // MILLISECOND, step, epoch, record.prefix, dict(zip(record.names, rest, strict=True))
    )
    assert same(layout.record_of(frame[8:]), expected)


@given(layout_records, st.data())
def test_a_sealed_sample_is_a_frame_like_any_other(record: LayoutRecord, data: st.DataObject) -> None:
    """Its checksum is the one of all frames, and no bit of it can be flipped unnoticed."""
    layout = Layout(record)
    frame = bytearray(frame_of(layout, [1.5] * (len(record.names) + record.has_epoch)))
    seal(frame, 0, len(frame))
    assert read_unsealed(bytes(frame), 0) is None
    found = read_frame(bytes(frame), 0)
    assert found is not None
    assert (found.payload, found.end) == (bytes(frame[8:]), len(frame))
    bit = data.draw(st.integers(0, 8 * len(frame) - 1))
    frame[bit // 8] ^= 1 << bit % 8
    assert read_frame(bytes(frame), 0) is None


@given(layout_records, st.data())
def test_a_part_of_an_unsealed_sample_is_none(record: LayoutRecord, data: st.DataObject) -> None:
    """Cut it, or zero it from a place on, or up to one behind the mark: it is no sample."""
    layout = Layout(record)
    frame = frame_of(layout, [1.5] * (len(record.names) + record.has_epoch))
    place = data.draw(st.integers(0, len(frame) - 1))
    assert read_unsealed(frame[:place], 0) is None
    assert read_unsealed(frame[: place - place % 8].ljust(len(frame), b"\0"), 0) is None
    assert read_unsealed(bytes(max(place, 8)) + frame[max(place, 8) :], 0) is None


@pytest.mark.parametrize("has_epoch", [False, True])
def test_a_sample_is_at_most_a_page(has_epoch: bool) -> None:
    """What is larger has no layout: header and tail would lie too far apart."""
    most = next(count for count in range(1000, 0, -1) if fits(count, has_epoch=has_epoch))
    names = tuple(map(str, range(most + 1)))
    assert Layout(LayoutRecord(1, None, has_epoch, names[:-1])).frame_size == LARGEST_FRAME
    with pytest.raises(ValueError, match="too many"):
        Layout(LayoutRecord(1, None, has_epoch, names))
    assert decode_layout(encode(LayoutRecord(1, None, has_epoch, names))) is None


def test_the_bytes_of_a_sample() -> None:
    """They are on people's disks: they do not change."""
    layout = Layout(LayoutRecord(0x0102, "val", True, ("loss",)))
    frame = frame_of(layout, [2.0, 0.5], seq=7, time=5, step=-1)
    tail = (5).to_bytes(8, "little") + b"\xff" * 8 + struct.pack("<dd", 2.0, 0.5) + b"\x07\0\0\0"
    assert frame == b"\x28\0\0\0" + b"esal" + b"\xc1\x02\x01S" + tail
    assert (
        encode(LayoutRecord(0x0102, "val", True, ("loss",)))
        == b"\x95\xa1n\xcd\x01\x02\xa3val\xc3\x91\xa4loss"
    )


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\x95\xa1n",
        b"\x95\xa1n\x00\xc0\xc2\x90",  # no layout has the number 0
        b"\x95\xa1n\xce\0\x01\0\0\xc0\xc2\x90",  # nor one above the last
        b"\x95\xa1n\x01\xc0\xc2\x91\x01",  # a name that is none
        b"\x95\xa1n\x01\xc0\xc2\x91\xa1\xff",  # nor is this one
        b"\x95\xa1n\x01\xc0\xc2" + b"\x91" * 50_000,
    ],
)
def test_what_is_no_layout(payload: bytes) -> None:
    """Bytes that describe none are none, and nothing is raised."""
    assert decode_layout(payload) is None
