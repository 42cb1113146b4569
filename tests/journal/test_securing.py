"""Making a claim independent of its original."""

from __future__ import annotations

import os

import pytest

from tests.journal.holding import LARGE, has_changed
from tests.journal.test_held_content import say_made_in
from trackside.journal import securing
from trackside.journal.held_content import content_of
from trackside.journal.held_files import HeldFiles
from trackside.journal.securing import secure


@pytest.fixture
def path(tmp_path):
    """A large file."""
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"x" * LARGE)
    return path


@pytest.fixture
def reflinks(monkeypatch):
    """A file system with reflinks: they behave as copies do."""
    monkeypatch.setattr(securing, "_clone", securing._copy)


def test_a_copy_needs_nothing(journal, tmp_path):
    """Nothing a program does changes it."""
    (tmp_path / "small").write_bytes(b"{}")
    assert secure(journal, HeldFiles(journal).hold_file(tmp_path / "small"))


def test_a_reflink_takes_the_place_of_a_hard_link(journal, path, reflinks):
    """What is then written into the file in place does not change it."""
    held = HeldFiles(journal).hold_file(path)
    assert secure(journal, held)
    path.write_bytes(b"y" * LARGE)
    assert content_of(journal, held).read_bytes() == b"x" * LARGE
    assert not has_changed(journal, held)
    assert secure(journal, held)
    assert sorted(os.listdir(journal.path / "files")) == [held.name]


def test_a_reflink_beside_the_original(journal, elsewhere, reflinks):
    """It lies on the file system of the original."""
    path = elsewhere / "last.ckpt"
    path.write_bytes(b"x" * LARGE)
    held = HeldFiles(journal).hold_file(path)
    assert secure(journal, held)
    path.write_bytes(b"y" * LARGE)
    assert content_of(journal, held).read_bytes() == b"x" * LARGE
    assert not has_changed(journal, held)


def test_each_file_of_a_folder_gets_a_reflink(journal, tmp_path, reflinks):
    """As a file by itself."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name in "ab":
        (folder / name).write_bytes(b"x" * LARGE)
    held = HeldFiles(journal).hold_folder(folder)
    assert secure(journal, held)
    (folder / "a").write_bytes(b"y" * LARGE)
    assert (content_of(journal, held) / "a").read_bytes() == b"x" * LARGE
    assert not has_changed(journal, held)


def test_without_reflinks_a_hard_link_stays(journal, path, monkeypatch):
    """A copy of a large file could fill the disk."""
    monkeypatch.setattr(securing, "_clone", lambda *_: False)
    held = HeldFiles(journal).hold_file(path)
    assert not secure(journal, held)
    path.write_bytes(b"y" * LARGE)
    assert has_changed(journal, held)


def test_an_original_is_copied_at_once(journal, path, no_links, monkeypatch):
    """Then it may be deleted."""
    monkeypatch.setattr(securing, "_clone", lambda *_: False)
    say_made_in(journal, journal.path.stat().st_ino)
    held = HeldFiles(journal).hold_file(path)
    assert not path.is_symlink()
    assert secure(journal, held)
    path.unlink()
    assert content_of(journal, held).read_bytes() == b"x" * LARGE
    assert not has_changed(journal, held)


def test_a_file_that_changes_while_it_is_copied_stays_as_it_was(journal, path, monkeypatch):
    """Half of one state and half of another would be neither."""

    def write_in_between(source, temporary):
        with path.open("r+b") as file:
            file.write(b"y")
        os.utime(path, ns=(1, 1))
        return securing._copy(source, temporary)

    held = HeldFiles(journal).hold_file(path)
    monkeypatch.setattr(securing, "_clone", write_in_between)
    assert not secure(journal, held)
    assert content_of(journal, held).samefile(path)
    assert sorted(os.listdir(journal.path / "files")) == [held.name]


def test_a_file_that_is_being_written_is_left_alone(journal, path, reflinks):
    """What is still to come would be missing."""
    with path.open("ab", buffering=0) as file:
        held = HeldFiles(journal).hold_file(path)
        assert not secure(journal, held)
        file.write(b"end")
    assert content_of(journal, held).read_bytes() == b"x" * LARGE + b"end"
