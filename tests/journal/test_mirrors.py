"""What a claim on a folder keeps, and what it leaves out."""

from __future__ import annotations

import errno
import os

import pytest

from tests.journal.holding import LARGE, has_changed, targets, waiting_in
from trackside.errors import ArtifactError
from trackside.journal.held_content import content_of
from trackside.journal.held_files import HeldFiles
from trackside.journal.mirrors import MOST_COPIES
from trackside.journal.releasing import entries


@pytest.fixture
def folder(tmp_path):
    """A folder with a small file and a large one in a folder of its own."""
    folder = tmp_path / "checkpoint-500"
    (folder / "weights").mkdir(parents=True)
    (folder / "state.json").write_bytes(b"{}")
    (folder / "weights" / "model.bin").write_bytes(b"x" * LARGE)
    return folder


def kept(journal, held):
    """The paths of the files that are kept, below their folder."""
    content = content_of(journal, held)
    return sorted(path.relative_to(content).as_posix() for path in content.rglob("*") if path.is_file())


def test_what_is_no_file_is_left_out_and_told(journal, folder):
    """A pipe, a link to nothing and a link to a folder. A link to a file is followed."""
    os.mkfifo(folder / "pipe")
    (folder / "broken").symlink_to("nothing")
    (folder / "best").symlink_to("weights")
    (folder / "last.bin").symlink_to("weights/model.bin")
    told: list[str] = []
    held = HeldFiles(journal, leave_out=told.append).hold_folder(folder)
    assert kept(journal, held) == ["last.bin", "state.json", "weights/model.bin"]
    assert (content_of(journal, held) / "last.bin").read_bytes() == b"x" * LARGE
    assert len(told) == 3
    assert any("link to a folder. Log that folder by itself" in text for text in told)


def test_names_are_checked_and_masked_below_the_folder(journal, folder):
    """A file whose name is refused is left out, and the others are kept under the names they are given."""

    def names(paths):
        return [
            ArtifactError(f"{path} is refused") if "model" in path else path.replace("state", "***")
            for path in paths
        ]

    told: list[str] = []
    held = HeldFiles(journal, leave_out=told.append).hold_folder(folder, names)
    assert kept(journal, held) == ["***.json"]
    assert told == ["weights/model.bin is refused"]


def test_of_many_small_files_the_first_are_copied(journal, tmp_path):
    """The others are linked, which takes the call less time."""
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(MOST_COPIES + 10):
        (folder / f"{number}.json").write_bytes(b"{}")
    held = HeldFiles(journal).hold_folder(folder)
    content = content_of(journal, held)
    links = [path for path in content.iterdir() if path.stat().st_nlink > 1]
    assert (len(kept(journal, held)), len(links), held.way) == (MOST_COPIES + 10, 10, "link")


def test_a_folder_that_cannot_be_listed_is_left_out(journal, folder, monkeypatch):
    """The rest is kept."""
    scan = os.scandir

    def refuse(path):
        if str(path).endswith("weights"):  # for root nothing is unreadable
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
    told: list[str] = []
    held = HeldFiles(journal, leave_out=told.append).hold_folder(folder)
    monkeypatch.undo()
    assert kept(journal, held) == ["state.json"]
    assert len(told) == 1
    assert "weights" in told[0]


def test_a_folder_without_files_is_refused(journal, tmp_path):
    """It would leave no trace on the run's page."""
    (tmp_path / "empty" / "nested").mkdir(parents=True)
    with pytest.raises(ArtifactError, match="nothing to keep"):
        HeldFiles(journal).hold_folder(tmp_path / "empty")
    assert entries(journal.path) == []


def test_journals_and_claims_in_a_folder_are_no_part_of_it(journal, tmp_path):
    """The whole project may be logged while it is recorded there."""
    (tmp_path / "train.py").write_bytes(b"pass")
    (tmp_path / ".trackside" / "other").mkdir(parents=True)
    (tmp_path / ".trackside" / "other" / "meta.json").write_bytes(b"{}")
    (tmp_path / ".trackside-1000").mkdir()
    (tmp_path / ".trackside-1000" / "meta.json").write_bytes(b"{}")
    (tmp_path / ".trackside-12-run").mkdir()
    (tmp_path / ".trackside-12-run" / "0123456789abcdef").write_bytes(b"x")
    (journal.path / "a file").write_bytes(b"x")
    held = HeldFiles(journal).hold_folder(tmp_path)
    assert kept(journal, held) == ["train.py"]


def test_a_folder_on_another_file_system(journal, elsewhere):
    """Its small files are copied, and each large one has a claim in the hidden folder."""
    folder = elsewhere / "checkpoint-500"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_bytes(name.encode() * LARGE)
    (folder / "c").write_bytes(b"{}")
    held = HeldFiles(journal).hold_folder(folder)
    for name in "abc":
        (folder / name).unlink()
    folder.rmdir()
    assert kept(journal, held) == ["a", "b", "c"]
    assert (content_of(journal, held) / "b").read_bytes() == b"b" * LARGE
    assert waiting_in(journal.path) == (3, 2 * LARGE + 2)
    (hidden,) = {target.parent for target in targets(journal)}
    HeldFiles(journal).let_go(held)
    assert not hidden.exists()
    assert entries(journal.path) == []


def test_a_file_in_a_folder_that_is_overwritten_in_place_is_noticed(journal, folder):
    """By the time of the file that was written to last."""
    held = HeldFiles(journal).hold_folder(folder)
    assert not has_changed(journal, held)
    (folder / "weights" / "model.bin").write_bytes(b"y" * LARGE)
    assert has_changed(journal, held)
