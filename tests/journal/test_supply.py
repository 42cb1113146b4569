from __future__ import annotations

import errno
import os
import threading
from typing import TYPE_CHECKING

import pytest

from tests.journal.tools import new_journal
from trackside.journal import supply
from trackside.journal.segment import create_segment
from trackside.journal.supply import (
    DEFAULT_CAP,
    SegmentSupply,
    segment_ready_after,
    size_of_segment,
)

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20


def sizes(directory: Path) -> list[int]:
    """Sizes of the segments in ``directory``."""
    return [path.stat().st_size for path in sorted(directory.glob("*.seg"))]


def test_segments_double_up_to_the_largest() -> None:
    """A short run takes little, a long one rotates seldom."""
    assert [size_of_segment(n) // MIB for n in range(1, 10)] == [1, 2, 4, 8, 16, 32, 64, 64, 64]
    assert size_of_segment(10**6) == 64 * MIB


@pytest.mark.parametrize("cap", [1 << 16, 1 << 20, 1 << 24, DEFAULT_CAP])
def test_segment_is_a_part_of_the_cap(cap: int) -> None:
    """Below any cap there is room for a segment beside the one that is full but not yet deleted."""
    assert all(0 < size_of_segment(n, cap) <= cap // 4 for n in range(1, 20))


def test_cap_is_an_error_that_says_so(tmp_path: Path) -> None:
    """Below the cap segments are made, and what would go beyond it is refused."""
    journal = new_journal(tmp_path)
    some = SegmentSupply(journal, MIB)
    for number in range(1, 5):
        some.open(number).buffer.close()
    with pytest.raises(OSError, match="the cap of 1048576 bytes is reached"):
        some.open(5)
    assert sizes(journal.path) == [MIB // 4] * 4
    journal.segment(1).unlink()
    some.open(5).buffer.close()


def test_segment_is_made_for_a_large_record(tmp_path: Path) -> None:
    """A record larger than a segment gets one of its own size."""
    journal = new_journal(tmp_path)
    opened = SegmentSupply(journal, DEFAULT_CAP).open(1, 5 * MIB)
    assert opened.usable >= 5 * MIB
    opened.buffer.close()


def test_segment_too_small_for_a_record_is_passed_over(tmp_path: Path) -> None:
    """A segment that was made ready too small stays empty, and the next one takes the record."""
    journal = new_journal(tmp_path)
    create_segment(journal.segment(2), 2 * MIB)
    opened = SegmentSupply(journal, DEFAULT_CAP).open(2, 3 * MIB)
    assert opened.number == 3
    assert opened.usable >= 3 * MIB
    opened.buffer.close()


def test_nearly_full_disk_gets_smaller_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment is halved until it fits, down to the smallest."""
    room = 300_000

    def create(path: Path, size: int) -> None:
        if size > room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        create_segment(path, size)

    monkeypatch.setattr(supply, "create_segment", create)
    journal = new_journal(tmp_path)
    opened = SegmentSupply(journal, DEFAULT_CAP).open(1)
    assert opened.capacity == 262_144
    opened.buffer.close()
    room = 100_000
    with pytest.raises(OSError, match="No space"):
        SegmentSupply(journal, DEFAULT_CAP).open(2)


def test_broken_disk_is_not_taken_for_a_full_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other error is passed on at the first try."""
    tries = []

    def create(path: Path, size: int) -> None:
        tries.append(size)
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(supply, "create_segment", create)
    with pytest.raises(OSError, match="Input/output"):
        SegmentSupply(new_journal(tmp_path), DEFAULT_CAP).open(1)
    assert len(tries) == 1


def test_shipper_makes_the_next_segment(tmp_path: Path) -> None:
    """The one after the given one, of the usual size, once, and never above the cap."""
    journal = new_journal(tmp_path)
    segment_ready_after(journal, 1)
    segment_ready_after(journal, 1)
    assert journal.segment_numbers() == [2]
    assert sizes(journal.path) == [2 * MIB]
    segment_ready_after(journal, 2, cap=2 * MIB)
    assert journal.segment_numbers() == [2]


def test_shipper_and_writer_make_the_same_segments(tmp_path: Path) -> None:
    """Both at once, again and again: each segment is there once, whole, and usable."""
    journal = new_journal(tmp_path)
    cap = 64 << 20
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supply, "FIRST_SIZE", 1 << 12)
        patch.setattr(supply, "LARGEST_SIZE", 1 << 14)

        def make_ready() -> None:
            for number in range(200):
                segment_ready_after(journal, number, cap=cap)

        other = threading.Thread(target=make_ready)
        other.start()
        some = SegmentSupply(journal, cap)
        for number in range(1, 201):
            opened = some.open(number)
            opened.buffer[opened.capacity - 8 : opened.capacity] = b"the end."
            opened.buffer.close()
        other.join()
    assert sizes(journal.path) == [4096, 8192] + [16384] * 198
    assert all(path.read_bytes().endswith(b"the end.") for path in journal.path.glob("*.seg"))
    assert len(os.listdir(journal.path)) == 200
