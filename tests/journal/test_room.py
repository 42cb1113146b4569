"""How much of a disk held files may take."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.journal.holding import LARGE
from trackside.errors import ArtifactError
from trackside.journal import room
from trackside.journal.held_files import HeldFiles
from trackside.journal.releasing import entries

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory


@pytest.fixture(autouse=True)
def no_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Held files are counted whenever they come near the limit."""
    monkeypatch.setattr(room, "REST", 0)


def test_a_copy_takes_room_at_once(journal: JournalDirectory) -> None:
    """What is over the cap is refused, and the text says what to do. Room comes back with a delivery."""
    held_files = HeldFiles(journal, cap=1000)
    first = held_files.keep_bytes(b"x" * 600)
    with pytest.raises(ArtifactError, match=r"take 600 bytes of the disk.*TRACKSIDE_HELD_FILES_CAP"):
        held_files.keep_bytes(b"x" * 600)
    assert entries(journal.path) == [first.name]
    held_files.let_go(first)
    held_files.keep_bytes(b"x" * 600)


def test_a_link_takes_room_once_the_original_is_deleted(journal: JournalDirectory, tmp_path: Path) -> None:
    """Any number of checkpoints that you keep may wait, and as many as fit of those that you don't."""
    held_files = HeldFiles(journal, cap=LARGE * 3 // 2)
    paths = [tmp_path / f"{number}.ckpt" for number in range(4)]
    for path in paths:
        path.write_bytes(b"x" * LARGE)
        held_files.hold_file(path)
    for path in paths[:2]:
        path.unlink()
    with pytest.raises(ArtifactError, match=r"no room for .*3.ckpt"):
        held_files.hold_file(paths[3])


def test_a_small_file_without_room_for_a_copy_is_linked(journal: JournalDirectory, tmp_path: Path) -> None:
    """It takes no room as long as the original is there."""
    held_files = HeldFiles(journal, cap=1000)
    held_files.keep_bytes(b"x" * 900)
    (tmp_path / "small").write_bytes(b"x" * 500)
    assert held_files.hold_file(tmp_path / "small").way == "link"


def test_without_a_cap_as_much_as_is_left_free_may_be_taken(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With 1000 bytes on a disk, held files take 500 of them at most."""
    held_files = HeldFiles(journal)
    taken = 0

    def free(_: str) -> int:
        return 1000 - taken

    monkeypatch.setattr(room, "_free", free)
    while True:
        try:
            held_files.keep_bytes(b"x" * 100)
        except ArtifactError:
            break
        taken += 100
    assert taken == 500


def test_far_from_the_limit_nothing_is_counted(
    journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim costs the same however many files wait."""
    held_files = HeldFiles(journal, cap=10**9)
    monkeypatch.setattr(os, "walk", lambda _: pytest.fail("the held files are counted"))
    for _ in range(10):
        held_files.keep_bytes(b"x" * 100)


def test_a_link_to_the_original_takes_no_room(
    journal: JournalDirectory, tmp_path: Path, no_links: None
) -> None:
    """Nor does it keep others out."""
    held_files = HeldFiles(journal, cap=1000)
    path = tmp_path / "large"
    path.write_bytes(b"x" * LARGE)
    for _ in range(3):
        assert held_files.hold_file(path).way == "original"
