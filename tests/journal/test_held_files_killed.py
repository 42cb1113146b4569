"""Claims of a training that is killed."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.journal.holding import has_changed
from tests.journal.tools import kill_at_random, read_all
from trackside.journal.format import ArtifactRecord
from trackside.journal.held_content import content_of
from trackside.journal.releasing import entries

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import HeldFile


@pytest.fixture(params=["the same file system", "another file system"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A folder for checkpoints. In memory there is another file system."""
    where = tmp_path if request.param == "the same file system" else "/dev/shm"
    with tempfile.TemporaryDirectory(dir=where) as folder:
        yield Path(folder)


def number_in(path: Path, size: int) -> int:
    """The number that is in every four bytes of a file of ``size`` bytes."""
    content = path.read_bytes()
    assert len(content) == size
    assert content == content[:4] * (size // 4)
    return int.from_bytes(content[:4], "little")


def numbers(journal: JournalDirectory, held: list[HeldFile]) -> list[int]:
    """The numbers of files and folders, in order: each has one, in all its bytes."""
    found = []
    for one in held:
        assert not has_changed(journal, one)
        content = content_of(journal, one)
        if content.is_dir():
            large, small = number_in(content / "large", 160_000), number_in(content / "small", 4)
            assert large == small
            found.append(large)
        else:
            found.append(number_in(content, 160_000))
    return found


@pytest.mark.parametrize("round_", range(2))
def test_a_killed_training_loses_no_file_that_was_logged(
    journal: JournalDirectory, place: Path, round_: int
) -> None:
    """All of them were replaced or deleted right after the call. Claims without a record go at the end."""
    returned = kill_at_random("hold_until_killed.py", journal, place)
    records, _ = read_all(journal)
    held = [record.held for record in records if isinstance(record, ArtifactRecord) and record.held]
    assert numbers(journal, held) == [number // 2 + 1 for number in range(len(held))]
    assert 2 * returned <= len(held) <= 2 * returned + 2
    assert {one.name for one in held} <= {*entries(journal.path)}
    journal.remove()
    assert not journal.path.exists()
    assert list(place.rglob(".trackside-*")) == []
