from __future__ import annotations

import errno
import mmap
import os
import threading
from typing import TYPE_CHECKING

import pytest

from trackside.journal import segment as segment_module
from trackside.journal.segment import (
    Segment,
    capacity_for,
    create_segment,
    open_segment,
)
from trackside.system.mapping import FileBuffer, NoBuffer, open_buffer

if TYPE_CHECKING:
    from pathlib import Path


def refuse(number: int):
    """A stand-in for a system call that fails with ``number``."""

    def call(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


def test_segment_has_all_its_blocks_at_once(tmp_path: Path) -> None:
    """A new segment is zeros, private, and as large on disk as it looks."""
    path = tmp_path / "00000001.seg"
    create_segment(path, 1 << 20)
    status = path.stat()
    assert status.st_size == 1 << 20
    assert status.st_blocks * 512 >= 1 << 20
    assert status.st_mode & 0o777 == 0o600
    assert not any(path.read_bytes())
    assert list(tmp_path.iterdir()) == [path]


def test_segment_that_exists_is_left_alone(tmp_path: Path) -> None:
    """Whoever comes second finds the segment of the first, records and all."""
    path = tmp_path / "00000001.seg"
    path.write_bytes(b"records")
    create_segment(path, 1 << 20)
    assert path.read_bytes() == b"records"
    assert list(tmp_path.iterdir()) == [path]


def test_many_threads_make_one_segment(tmp_path: Path) -> None:
    """Threads that make the same segment at the same moment do not cut each other's file."""
    size, wrong, start = 64 << 10, [], threading.Barrier(4)

    def work() -> None:
        for number in range(1, 60):
            start.wait()
            path = tmp_path / f"{number:08d}.seg"
            create_segment(path, size)
            mine = open_segment(path, number, 0)
            if mine.capacity != size or path.stat().st_size != size:
                wrong.append(number)
            mine.buffer[0:8] = b"8 bytes."  # a SIGBUS, were the file cut
            mine.buffer.close()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(list(tmp_path.iterdir())) == 59


def test_missing_directory_is_made_again(tmp_path: Path) -> None:
    """A directory removed under the writer comes back, private, with the next segment."""
    create_segment(tmp_path / "gone" / "00000002.seg", 4096)
    assert (tmp_path / "gone").stat().st_mode & 0o777 == 0o700


def test_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A segment that finds no room is an error, and no half of one stays."""
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.ENOSPC))
    with pytest.raises(OSError, match="No space"):
        create_segment(tmp_path / "00000001.seg", 4096)
    assert list(tmp_path.iterdir()) == []


def test_without_fallocate_segment_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where blocks can't be had beforehand nothing is mapped: the file grows with ``pwrite``."""
    monkeypatch.setattr(os, "posix_fallocate", refuse(errno.EOPNOTSUPP))
    path = tmp_path / "00000001.seg"
    create_segment(path, 1 << 20)
    assert path.stat().st_size == 0
    opened = open_segment(path, 1, 7000)
    assert isinstance(opened.buffer, FileBuffer)
    assert opened.capacity == 7000
    opened.buffer[8:11] = b"abc"
    opened.buffer.close()
    assert path.read_bytes() == b"\0" * 8 + b"abc"


def test_platform_without_fallocate_writes_zeros(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """macOS has no ``posix_fallocate``: zeros take the blocks just the same."""
    monkeypatch.delattr(os, "posix_fallocate")
    path = tmp_path / "00000001.seg"
    create_segment(path, (5 << 20) + 17)
    assert path.stat().st_size == (5 << 20) + 17
    assert path.stat().st_blocks * 512 >= 5 << 20


def test_without_hard_links_the_first_still_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a file system without links a segment in use is not replaced."""
    monkeypatch.setattr(os, "link", refuse(errno.EPERM))
    path = tmp_path / "00000001.seg"
    create_segment(path, 4096)
    assert path.stat().st_size == 4096
    path.write_bytes(b"records")
    create_segment(path, 4096)
    assert path.read_bytes() == b"records"
    assert list(tmp_path.iterdir()) == [path]


def test_file_that_cannot_be_mapped_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``mmap`` a segment keeps its size and takes bytes all the same."""
    path = tmp_path / "00000001.seg"
    create_segment(path, 4096)
    monkeypatch.setattr(mmap, "mmap", refuse(errno.ENODEV))
    opened = open_segment(path, 1, 7000)
    assert isinstance(opened.buffer, FileBuffer)
    assert opened.capacity == 4096
    opened.buffer[4088:4096] = b"the end."
    opened.buffer.close()
    assert path.read_bytes().endswith(b"\0the end.")
    assert path.stat().st_size == 4096


def test_closed_buffer_refuses_and_closes_once(tmp_path: Path) -> None:
    """A closed file's number may belong to another file: it is neither written nor closed again."""
    path = tmp_path / "file"
    path.write_bytes(b"12345678")
    with path.open("r+b") as file:
        buffer = FileBuffer(file.fileno())
        buffer.close()
        buffer.close()
        for closed in (buffer, NoBuffer()):
            with pytest.raises(ValueError, match="closed"):
                closed[0:1] = b"x"
        NoBuffer().close()
        mapped = open_buffer(file.fileno(), 8)
        assert isinstance(mapped, mmap.mmap)
        mapped.close()
    assert path.read_bytes() == b"12345678"


def test_large_segment_is_allocated_in_steps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One long call would be begun anew by every signal, and under a fast timer never end."""
    calls = []
    real = os.posix_fallocate

    def allocate(descriptor: int, start: int, length: int) -> None:
        calls.append((start, length))
        real(descriptor, start, length)

    monkeypatch.setattr(os, "posix_fallocate", allocate)
    monkeypatch.setattr(segment_module, "_ALLOCATION_STEP", 4096)
    create_segment(tmp_path / "00000001.seg", 10_000)
    assert calls == [(0, 4096), (4096, 4096), (8192, 1808)]
    assert (tmp_path / "00000001.seg").stat().st_size == 10_000


@pytest.mark.parametrize("frame", [0, 16, 1000, 32767, 98304, 98308, 1 << 20])
def test_least_capacity_takes_the_frame(frame: int) -> None:
    """A segment made for one frame has room for it beside the reserve."""
    assert Segment(1, NoBuffer(), capacity_for(frame)).usable >= frame


def test_pages_behind_are_let_go_and_keep_what_is_in_them(tmp_path: Path) -> None:
    """Letting go takes nothing from the file, may be done twice, and is nothing to a closed segment."""
    path = tmp_path / "00000001.seg"
    create_segment(path, 1 << 21)
    opened = open_segment(path, 1, 0)
    filled = bytes(range(256)) * 4096
    for start in range(0, len(filled), 1 << 16):
        opened.buffer[start : start + (1 << 16)] = filled[start : start + (1 << 16)]
        opened.offset = start + (1 << 16)
        opened.let_go_behind()
    opened.buffer[8:16] = b"too late"  # an append that was interrupted is finished where it was
    opened.let_go_behind()
    opened.buffer.close()
    opened.offset = 1 << 21
    opened.let_go_behind()
    assert path.read_bytes()[: len(filled)] == filled[:8] + b"too late" + filled[16:]


def test_limit_moves_on_by_stretches_to_the_end() -> None:
    """Never beyond what is usable, never short of the frame that asks, past the middle on the way."""
    segment = Segment(1, NoBuffer(), 1 << 20)
    assert not segment.half_used
    while segment.limit < segment.usable:
        before = segment.limit
        segment.extend_limit(before + 8)
        assert before + 8 <= segment.limit <= segment.usable
    assert segment.half_used
