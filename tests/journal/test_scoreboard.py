from __future__ import annotations

import errno
import mmap
import os
import threading
from typing import TYPE_CHECKING

import pytest

from trackside.journal.scoreboard import (
    NotKept,
    Scoreboard,
    SignalSeen,
    read_dropped,
    read_not_kept,
    read_on_device,
    read_signals,
)

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(params=["mapped", "written"])
def board(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A scoreboard, on file systems with and without ``mmap``; its file is ``tmp_path/scoreboard``."""
    if request.param == "written":

        def refuse(*_: object) -> None:
            raise OSError(errno.ENODEV, os.strerror(errno.ENODEV))

        monkeypatch.setattr(mmap, "mmap", refuse)
    return Scoreboard(tmp_path / "scoreboard")


def test_new_board_is_empty(board: Scoreboard, tmp_path: Path) -> None:
    """Nothing noted, nothing told; the file is private and has its block."""
    path = tmp_path / "scoreboard"
    assert read_dropped(path) == 0
    assert read_signals(path) == []
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_blocks * 512 >= 4096


def test_signals_are_noted_with_first_last_and_count(board: Scoreboard, tmp_path: Path) -> None:
    """The first time stays, the last one moves, and other numbers keep their own."""
    for number, at_ms in [(15, 1000), (2, 1500), (15, 2000), (15, 3000)]:
        board.note_signal(number, at_ms)
    assert read_signals(tmp_path / "scoreboard") == [
        SignalSeen(2, 1500, 1500, 1),
        SignalSeen(15, 1000, 3000, 3),
    ]


@pytest.mark.parametrize("number", [-1, 65, 10**9])
def test_impossible_signal_is_ignored(board: Scoreboard, tmp_path: Path, number: int) -> None:
    """A number without a slot is not noted anywhere."""
    board.note_signal(number, 1)
    assert read_signals(tmp_path / "scoreboard") == []


def test_drops_add_up_over_threads(board: Scoreboard, tmp_path: Path) -> None:
    """Threads that drop at the same time lose no count, in memory or on disk."""

    def work() -> None:
        for _ in range(2000):
            board.note_dropped(3)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (board.dropped_points, board.dropped_samples) == (24_000, 8000)
    assert read_dropped(tmp_path / "scoreboard") == 24_000


def test_reader_never_sees_a_number_in_the_making(tmp_path: Path) -> None:
    """Counts only grow, whenever they are looked at: a number is stored in one piece."""
    path = tmp_path / "scoreboard"
    board = Scoreboard(path)
    board.note_dropped(1)
    seen: list[int] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            seen.append(read_dropped(path))

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(20_000):
        board.note_dropped(251)
    stop.set()
    watcher.join()
    assert seen == sorted(seen)
    assert 0 not in seen


def test_disk_that_refuses_is_nobodys_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noting raises nothing into training or a signal handler; what was refused is stored later."""

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(mmap, "mmap", refuse)
    board = Scoreboard(tmp_path / "scoreboard")
    with monkeypatch.context() as broken:
        broken.setattr(os, "pwrite", refuse)
        board.note_dropped(2)
        board.note_signal(15, 1000)
    assert board.dropped_points == 2
    board.note_dropped(3)
    board.note_signal(15, 2000)
    assert read_dropped(tmp_path / "scoreboard") == 5
    assert read_signals(tmp_path / "scoreboard") == [SignalSeen(15, 1000, 2000, 2)]


@pytest.mark.parametrize("data", [None, b"", b"\1\2\3", bytes(15)])
def test_cut_or_missing_file_says_nothing(tmp_path: Path, data: bytes | None) -> None:
    """What can't be read counts as nothing noted."""
    path = tmp_path / "scoreboard"
    if data is not None:
        path.write_bytes(data)
    assert read_dropped(path) == 0
    assert read_signals(path) == []


def test_points_on_a_device_are_the_last_number_noted(board: Scoreboard, tmp_path: Path) -> None:
    """They come and go, beside the drops, which only grow; none without a file."""
    path = tmp_path / "scoreboard"
    assert read_on_device(path) == 0
    for points in (7, 12, 5):
        board.note_on_device(points)
        board.note_dropped(1)
        assert read_on_device(path) == points
    assert read_dropped(path) == 3
    path.unlink()
    assert read_on_device(path) == 0


def test_artifacts_not_kept_are_counted_with_their_reasons(board: Scoreboard, tmp_path: Path) -> None:
    """Each is counted. A reason is one line, whatever is in it, and what has no room is left out whole."""
    path = tmp_path / "scoreboard"
    assert read_not_kept(path) == NotKept()
    board.note_not_kept("there is no file\nat \0 'ä'")
    board.note_not_kept()
    board.note_not_kept("x" * 3000)
    board.note_not_kept("the disk is full")
    assert read_not_kept(path) == NotKept(4, ("there is no file at   'ä'", "the disk is full"))
    assert board.artifacts_not_kept == 4
    assert read_signals(path) == []


def test_artifacts_not_kept_of_a_missing_or_older_board(tmp_path: Path) -> None:
    """Without a scoreboard, and with zeros where an older trackside wrote nothing, there are none."""
    assert read_not_kept(tmp_path / "scoreboard") == NotKept()
    (tmp_path / "scoreboard").write_bytes(bytes(4096))
    assert read_not_kept(tmp_path / "scoreboard") == NotKept()
