from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.journal.tools import new_journal, run_script
from trackside.errors import JournalError
from trackside.journal import directory as directory_module
from trackside.journal.directory import JournalDirectory, create_directory, last_sign_ms
from trackside.journal.files import make_private_directory

if TYPE_CHECKING:
    from pathlib import Path


def test_directory_is_new_and_named_by_time_and_label(tmp_path: Path) -> None:
    """Two runs of one name at one moment get a directory each, named by what is safe of the label."""
    one = create_directory(tmp_path, "My Run/../ünï: 7!")
    two = create_directory(tmp_path, "My Run/../ünï: 7!")
    assert one.path != two.path
    assert one.path.parent == tmp_path
    assert "-my-run-n-7-" in one.name
    assert "-run-" in create_directory(tmp_path, "///").name


def test_directory_is_private_even_under_an_open_umask(tmp_path: Path) -> None:
    """Mode 0700, and so are the directories made above it."""
    before = os.umask(0)
    try:
        journal = create_directory(tmp_path / "deep" / "down", "x")
    finally:
        os.umask(before)
    for path in (tmp_path / "deep", tmp_path / "deep" / "down", journal.path):
        assert path.stat().st_mode & 0o777 == 0o700


def test_file_in_the_way_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    """The message says what is wrong, where, and which variable to set."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(JournalError, match="TRACKSIDE_DIR") as caught:
        create_directory(tmp_path / "file", "x")
    assert str(tmp_path / "file") in str(caught.value)


def test_unwritable_root_is_an_error_that_names_the_way_out(tmp_path: Path) -> None:
    """Without permission (as nobody, when the tests run as root) start() is told to look elsewhere."""
    tmp_path.chmod(0o555)
    message = run_script("unwritable.py", tmp_path)
    assert "Permission denied" in message
    assert "Set TRACKSIDE_DIR" in message


def test_a_journal_that_is_being_removed_is_seen_to_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the first moment, so that a shipper that locks what is left of it leaves it alone."""
    journal = new_journal(tmp_path)
    journal.meta.write_text("{}")
    seen: list[bool] = []
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: seen.append(journal.meta.exists()))
    journal.remove()
    assert seen
    assert not any(seen)


def test_root_removed_by_an_ending_run_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last run to end removes the root, perhaps just while another one begins."""
    root = tmp_path / "root"
    real = make_private_directory
    calls = []

    def make_and_lose(path: Path) -> None:
        calls.append(path)
        real(path)
        if len(calls) == 1:
            path.rmdir()

    monkeypatch.setattr(directory_module, "make_private_directory", make_and_lose)
    assert create_directory(root, "x").path.is_dir()
    assert len(calls) == 2


def test_root_that_keeps_vanishing_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a few tries it is an error, not a loop."""
    monkeypatch.setattr(directory_module, "make_private_directory", lambda path: None)
    with pytest.raises(JournalError, match="No such file"):
        create_directory(tmp_path / "root", "x")


def test_segments_are_listed_in_order_and_nothing_else_is(tmp_path: Path) -> None:
    """By number, not by name; temporary and foreign files are no segments."""
    journal = new_journal(tmp_path)
    for name in ["00000002.seg", "100000000.seg", "00000010.seg", ".00000003.seg.1a", "x.seg", "1.seg"]:
        (journal.path / name).write_bytes(b"12345")
    assert journal.segment_numbers() == [2, 10, 100_000_000]
    assert journal.segment_bytes() == 15
    assert journal.segment(100_000_000).name == "100000000.seg"


def test_removed_journal_takes_an_empty_root_with_it(tmp_path: Path) -> None:
    """The default root goes with the last journal, and stays as long as it holds another."""
    one, two = new_journal(tmp_path / ".trackside"), new_journal(tmp_path / ".trackside")
    one.remove()
    assert two.path.is_dir()
    two.remove()
    two.remove()
    assert not (tmp_path / ".trackside").exists()
    assert two.segment_numbers() == []
    assert two.segment_bytes() == 0


def test_a_journal_somebody_just_writes_to_is_removed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refused shipper's last word comes after its directory was listed, and before it is removed."""
    journal = new_journal(tmp_path / ".trackside")
    late, real = [journal.state], os.rmdir

    def rmdir(path, **options) -> None:
        while late:
            late.pop().write_text("{}")
        real(path, **options)

    monkeypatch.setattr(os, "rmdir", rmdir)
    journal.remove()
    assert not (tmp_path / ".trackside").exists()


def test_cursors_are_found_by_destination(tmp_path: Path) -> None:
    """One file a destination."""
    journal = new_journal(tmp_path)
    for name in ("mlflow", "jsonl"):
        journal.cursor(name).write_bytes(b"{}")
    assert [path.name for path in journal.cursors()] == ["cursor-jsonl.json", "cursor-mlflow.json"]


def test_last_sign_is_the_newest_mark(tmp_path: Path) -> None:
    """The trainer's files count, the shipper's do not; nothing at all is 0."""
    journal = new_journal(tmp_path)
    assert last_sign_ms(journal) == 0
    for path, seconds in [(journal.meta, 1000), (journal.segment(1), 3000), (journal.state, 9000)]:
        path.write_bytes(b"x")
        os.utime(path, (seconds, seconds))
    assert last_sign_ms(JournalDirectory(str(journal.path))) == 3_000_000
