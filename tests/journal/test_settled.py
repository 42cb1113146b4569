"""Whether a held file is still being written to."""

from __future__ import annotations

import pytest

from tests.journal.holding import LARGE
from trackside.journal import settled
from trackside.journal.held_files import HeldFiles
from trackside.journal.settled import LONGEST, QUIET, QUIET_OPEN, Settling


class Clock:
    """A clock that is set."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    """The clock of a :class:`Settling`."""
    return Clock()


def test_a_file_that_is_not_written_to_is_settled_at_once(journal, tmp_path, clock):
    """Without a second look."""
    (tmp_path / "f").write_bytes(b"x" * LARGE)
    held = HeldFiles(journal).hold_file(tmp_path / "f")
    assert Settling(journal, held, clock=clock).is_settled()


def test_a_file_is_waited_for_until_it_is_closed(journal, tmp_path, clock):
    """However long it takes, as long as it changes."""
    with (tmp_path / "f").open("wb", buffering=0) as file:
        file.write(b"x" * LARGE)
        held = HeldFiles(journal).hold_file(tmp_path / "f")
        settling = Settling(journal, held, clock=clock)
        for _ in range(5):
            clock.now += QUIET_OPEN
            file.write(b"more")
            assert not settling.is_settled()
    settling.is_settled()  # it has changed since the last look
    assert settling.is_settled()
    assert not settling.gave_up


def test_a_file_that_stays_open_is_settled_when_it_rests(journal, tmp_path, clock):
    """A log stays open as long as the program runs. When the training has ended, less is waited for."""
    with (tmp_path / "train.log").open("wb", buffering=0) as file:
        file.write(b"x" * LARGE)
        held = HeldFiles(journal).hold_file(tmp_path / "train.log")
        settling = Settling(journal, held, clock=clock)
        assert not settling.is_settled()
        clock.now += QUIET
        assert not settling.is_settled()
        assert settling.is_settled(ended=True)
        clock.now += QUIET_OPEN
        assert settling.is_settled()
        file.write(b"more")
        assert not settling.is_settled(ended=True)


def test_a_file_that_never_rests_is_delivered_in_the_end(journal, tmp_path, clock):
    """As it is then, and that is said."""
    with (tmp_path / "train.log").open("wb", buffering=0) as file:
        file.write(b"x" * LARGE)
        settling = Settling(journal, HeldFiles(journal).hold_file(tmp_path / "train.log"), clock=clock)
        while not settling.is_settled():
            clock.now += 1
            file.write(b"more")
    assert clock.now == LONGEST
    assert settling.gave_up


def test_where_the_system_cannot_tell_a_file_has_to_rest(journal, tmp_path, clock, monkeypatch):
    """As on some network file systems."""
    (tmp_path / "f").write_bytes(b"x" * LARGE)
    settling = Settling(journal, HeldFiles(journal).hold_file(tmp_path / "f"), clock=clock)
    monkeypatch.setattr(settled, "has_writer", lambda _: None)
    assert not settling.is_settled()
    clock.now += QUIET
    assert settling.is_settled()


def test_one_open_file_of_a_folder_is_waited_for(journal, tmp_path, clock):
    """A checkpoint of many files is written one after the other."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    (folder / "a").write_bytes(b"x" * LARGE)
    with (folder / "b").open("wb", buffering=0) as file:
        file.write(b"x")
        held = HeldFiles(journal).hold_folder(folder)
        assert held.writing
        settling = Settling(journal, held, clock=clock)
        assert not settling.is_settled()
        file.write(b"y")
    settling.is_settled()
    assert settling.is_settled()


def test_a_copy_is_settled(journal, tmp_path, clock):
    """It is the journal's own."""
    held = HeldFiles(journal).keep_bytes(b"x")
    assert Settling(journal, held, clock=clock).is_settled()
