from __future__ import annotations

import zlib

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.journal.tools import metrics_records, records, same
from trackside.events import LifecycleEvent
from trackside.journal.format import (
    ALIGNMENT,
    FRAME_HEADER,
    HEADER_SIZE,
    MAX_PAYLOAD,
    QUIET,
    LifecycleRecord,
    MetricsRecord,
    Record,
    bytes_wanted,
    decode,
    encode,
    find_frame,
    frame_header,
    frame_size,
    read_frame,
)


def frame_of(record: Record) -> bytes:
    """The bytes of one frame, padding included."""
    payload = encode(record)
    return (frame_header(payload) + payload).ljust(frame_size(len(payload)), b"\0")


@given(records)
def test_record_survives_encoding(record: Record) -> None:
    """Every type, any unicode, NaN and infinities come back as they were."""
    assert same(decode(encode(record)), record)


@given(records)
def test_frame_gives_its_payload_back(record: Record) -> None:
    """A frame is read back whole, and says where the next one starts."""
    frame = read_frame(frame_of(record), 0)
    assert frame is not None
    assert frame.payload == encode(record)
    assert frame.end == len(frame_of(record))
    assert frame.end % ALIGNMENT == 0


@given(st.binary(min_size=1, max_size=20), st.integers(QUIET - 20, 4 * QUIET))
def test_checksum_in_pieces_is_that_of_the_whole(seed: bytes, size: int) -> None:
    """However long the payload is."""
    payload = (seed * (size // len(seed) + 1))[:size]
    assert frame_header(payload) == FRAME_HEADER.pack(size, zlib.crc32(payload, size))


@given(records, st.data())
def test_flipped_bit_is_noticed(record: Record, data: st.DataObject) -> None:
    """A frame with one bit flipped, anywhere but in the padding, is no frame."""
    frame = bytearray(frame_of(record))
    size = HEADER_SIZE + len(encode(record))
    bit = data.draw(st.integers(0, 8 * size - 1))
    frame[bit // 8] ^= 1 << bit % 8
    assert read_frame(bytes(frame), 0) is None


@given(records, st.data())
def test_cut_frame_is_no_frame(record: Record, data: st.DataObject) -> None:
    """A frame that lacks bytes at its end is not read, and says how many it wants."""
    frame = frame_of(record)
    size = HEADER_SIZE + len(encode(record))
    cut = frame[: data.draw(st.integers(0, size - 1))]
    assert read_frame(cut, 0) is None
    assert len(cut) < bytes_wanted(cut, 0) <= size


@given(st.binary(max_size=200), records)
def test_next_frame_is_found_behind_garbage(garbage: bytes, record: Record) -> None:
    """The search finds a whole frame at the next boundary behind bytes that are none."""
    before = garbage.ljust(frame_size(len(garbage)), b"\xff")
    data = before + frame_of(record)
    assert find_frame(data, ALIGNMENT if before else 0) == len(before)


@given(st.integers(1, 7), records)
def test_frame_off_the_boundary_is_not_found(shift: int, record: Record) -> None:
    """Frames start at multiples of 8: what lies elsewhere is part of something else."""
    assert find_frame(b"\0" * shift + frame_of(record), 0) is None


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\0" * 4096, b"\xa1m" * 5000, b"\x97\xa1m\0" * 999])
def test_nothing_is_found_where_nothing_is(data: bytes) -> None:
    """Empty, unused and record-like bytes hold no frame."""
    assert find_frame(data, 0) is None


def test_impossible_length_is_damage() -> None:
    """A length of 0 or above the largest payload claims nothing."""
    assert bytes_wanted(bytes(8), 0) == 0
    assert bytes_wanted((MAX_PAYLOAD + 1).to_bytes(4, "little") + bytes(4), 0) == 0
    assert bytes_wanted(MAX_PAYLOAD.to_bytes(4, "little") + bytes(4), 0) == MAX_PAYLOAD + HEADER_SIZE


@given(metrics_records | st.builds(lambda r: r, metrics_records))
def test_points_are_what_is_delivered(record: MetricsRecord) -> None:
    """``points`` counts the values that destinations get, the epoch among them."""
    assert record.points == len(record.named_values())


@pytest.mark.parametrize("prefix", [None, "", "/", "val", "val/"])
def test_metric_named_epoch_takes_the_place_of_the_epoch(prefix: str | None) -> None:
    """Without a prefix a metric called epoch wins; with one it is another metric. Slashes alone are none."""
    record = MetricsRecord(0, 1, 1, 2.0, prefix, {"epoch": 7.0})
    wanted = {"val/epoch": 7.0, "epoch": 2.0} if prefix and "val" in prefix else {"epoch": 7.0}
    assert record.named_values() == wanted
    assert record.points == len(wanted)


def test_record_that_is_none_is_refused() -> None:
    """A payload that is no record raises an error of msgspec's and nothing else."""
    with pytest.raises(msgspec.MsgspecError):
        decode(b"\x93\xa1x\x01\x02")


def test_a_lifecycle_record_has_the_fields_of_the_event() -> None:
    """Under the same names. On disk they have the order of format 1."""
    event = LifecycleEvent("crashed", "FAILED", "boom", 15, 3, "ValueError", "lines", timestamp_ms=7)
    record = LifecycleRecord.of(event)
    assert msgspec.structs.asdict(record) == {"seq": 0, **msgspec.structs.asdict(event)}
    on_disk = ["l", 0, 7, "crashed", "FAILED", "boom", 15, 3, "ValueError", "lines"]
    assert msgspec.msgpack.decode(encode(record)) == on_disk
