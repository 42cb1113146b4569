"""What delivered journals leave for their trainers goes once those are dead."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.journals import ALIVE, DEAD, ELSEWHERE, make, say
from trackside.shipper.unread import FORGOTTEN, remove_unread

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.owner import Owner


def delivered(root: Path, owner: Owner) -> JournalDirectory:
    """A journal of ``owner``'s that is delivered, and not read."""
    journal = make(root, owner, points=2)
    say(journal, phase="done")
    journal.mark_delivered()
    return journal


def test_of_the_dead_and_not_of_the_living(tmp_path: Path) -> None:
    """A journal that is not delivered stays, whosever it is."""
    dead, living, elsewhere = (delivered(tmp_path, owner) for owner in (DEAD, ALIVE, ELSEWHERE))
    undelivered = make(tmp_path, DEAD, points=2)
    remove_unread(tmp_path)
    assert [one.path.exists() for one in (dead, living, elsewhere)] == [False, True, True]
    assert undelivered.meta.exists()


def test_a_trainer_on_another_machine_has_a_day(tmp_path: Path) -> None:
    """It can't be looked up from here."""
    journal = delivered(tmp_path, ELSEWHERE)
    before = journal.path.stat().st_mtime - FORGOTTEN
    os.utime(journal.path, (before, before))
    remove_unread(tmp_path)
    assert not journal.path.exists()


def test_what_others_can_write_to_is_left_alone(tmp_path: Path) -> None:
    """It may not be what it looks like."""
    journal = delivered(tmp_path, DEAD)
    journal.path.chmod(0o777)
    remove_unread(tmp_path)
    assert journal.path.exists()


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    """Has nothing to remove."""
    remove_unread(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


@pytest.mark.parametrize("broken", [b"", b"[]", b'{"schema": 99}'])
def test_a_proof_that_can_not_be_read(tmp_path: Path, broken: bytes) -> None:
    """Another version wrote it, or it is damaged: it stays."""
    journal = delivered(tmp_path, DEAD)
    journal.delivered.write_bytes(broken)
    remove_unread(tmp_path)
    assert journal.path.exists()
