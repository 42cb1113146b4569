"""Segments made to cost time or memory: reading one takes no longer than reading a full one."""

from __future__ import annotations

import random
import resource
import struct
import time
from typing import TYPE_CHECKING

import pytest

from tests.journal.samples import layout_frame, sample_frame
from tests.journal.tools import new_journal, read_all, steps
from trackside.journal.format import MetricsRecord, encode, frame_header, frame_size
from trackside.journal.layouts import LAYOUT_BEGINS, UNSEALED

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SIZE = 1 << 22


def frame(seq: int) -> bytes:
    """A whole frame with one point."""
    payload = encode(MetricsRecord(seq, 1, seq, None, None, {"a": 1.0}))
    data = frame_header(payload) + payload
    return data.ljust(frame_size(len(payload)), b"\0")


def claims() -> bytes:
    """At every second boundary a frame begins, says its header, that reaches to the end."""
    blocks = (
        struct.pack("<II", SIZE - at - 8, 1) + b"\x96\xa1m".ljust(8, b"\0") for at in range(0, SIZE, 16)
    )
    return b"".join(blocks)[:SIZE]


def alternating() -> bytes:
    """Whole frames with a bad place between each two."""
    bad = struct.pack("<II", 1 << 23, 1)
    return b"".join(frame(seq) + bad for seq in range(1, 5_000))


def unsealed_claims() -> bytes:
    """Samples without a checksum, of every layout there may be, and of none that is there."""
    frames = []
    for seq in range(2, SIZE // 32):
        word = b"\xc1" + (seq % 65_535 + 1).to_bytes(2, "little") + b"S"
        frames.append(struct.pack("<II", 24, UNSEALED) + word + bytes(16) + struct.pack("<I", seq))
    return b"".join(frames)


def out_of_turn() -> bytes:
    """Samples of a layout that is there, with numbers that are not due."""
    return layout_frame(0) + SIZE // 40 * sample_frame(0, 1 << 31)


def in_turn_and_out_of_it() -> bytes:
    """Each second one is due, and the one after that is not."""
    pairs = (sample_frame(0, seq) + sample_frame(0, seq) for seq in range(2, 5_000))
    return layout_frame(0) + b"".join(pairs)


def seeming_layouts() -> bytes:
    """A sample of an unknown layout, and layouts that are said to be very long."""
    claim = struct.pack("<II", SIZE, 1) + LAYOUT_BEGINS.ljust(8, b"\0")
    return sample_frame(0, 2) + SIZE // 16 * claim


def noise() -> bytes:
    """Random bytes."""
    return random.Random(7).randbytes(SIZE)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("make", "kept"),
    [
        (claims, 1),
        (alternating, 5_000),
        (noise, 1),
        (unsealed_claims, 1),
        (out_of_turn, 1),
        (in_turn_and_out_of_it, 5_000),
        (seeming_layouts, 1),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
@pytest.mark.parametrize("dead", [True, False])
@pytest.mark.outside
def test_costly_bytes_are_read_in_seconds(
    tmp_path: Path, make: Callable[[], bytes], kept: int, dead: bool
) -> None:
    """What is whole is read, and the rest costs no more processor time than checking it a few times."""
    journal = new_journal(tmp_path)
    journal.segment(1).write_bytes(frame(1) + make())
    journal.segment(2).write_bytes(frame(90_000))
    before = time.process_time()
    found = steps(read_all(journal, dead=dead)[0])
    assert time.process_time() - before < 20
    assert found[0] == 1
    assert found[-1] == 90_000
    assert len(found) >= kept


@pytest.mark.outside
def test_a_sparse_segment_takes_no_memory(tmp_path: Path) -> None:
    """A terabyte of nothing behind a record costs tens of megabytes for a moment, and is passed."""
    journal = new_journal(tmp_path)
    with open(journal.segment(1), "wb") as file:
        file.write(frame(1))
        file.truncate(1 << 40)
    journal.segment(2).write_bytes(frame(2))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert steps(read_all(journal)[0]) == [1, 2]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000
