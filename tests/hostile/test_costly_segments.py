"""Segments made to cost time or memory: reading one takes no longer than reading a full one."""

from __future__ import annotations

import random
import resource
import struct
import time
from typing import TYPE_CHECKING

import pytest

from tests.journal.tools import new_journal, read_all, steps
from trackside.journal.format import MetricsRecord, encode, frame_header, frame_size

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


def noise() -> bytes:
    """Random bytes."""
    return random.Random(7).randbytes(SIZE)


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    ("make", "kept"), [(claims, 1), (alternating, 5_000), (noise, 1)], ids=["claims", "alternating", "noise"]
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
