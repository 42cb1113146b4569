"""What a claim keeps of a file or folder, and what it refuses."""

from __future__ import annotations

import errno
import os
import socket
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.journal.holding import LARGE, has_changed, targets, waiting_in
from trackside.errors import ArtifactError
from trackside.journal import claims
from trackside.journal.held_content import content_of
from trackside.journal.held_files import HeldFiles
from trackside.journal.releasing import entries, release


@pytest.mark.parametrize("size", [0, 10, claims.SMALL, claims.SMALL + 1, 5_000_000])
def test_a_claim_keeps_a_file_that_is_deleted(journal, tmp_path, size):
    """Whatever the size, the bytes are there after the original is gone."""
    path, content = tmp_path / "last.ckpt", os.urandom(size)
    path.write_bytes(content)
    held = HeldFiles(journal).hold_file(path)
    assert not has_changed(journal, held)
    path.unlink()
    assert content_of(journal, held).read_bytes() == content
    assert held.size == size
    assert held.way == ("copy" if size <= claims.SMALL else "link")
    assert not has_changed(journal, held)


def test_a_claim_keeps_a_file_that_is_replaced(journal, tmp_path):
    """Checkpoints that rotate under one name: each claim has its own."""
    path, held_files = tmp_path / "last.ckpt", HeldFiles(journal)
    contents = [os.urandom(LARGE) for _ in range(3)]
    held = []
    for content in contents:
        (tmp_path / "new").write_bytes(content)
        (tmp_path / "new").rename(path)
        held.append(held_files.hold_file(path))
    assert [content_of(journal, one).read_bytes() for one in held] == contents
    assert not any(has_changed(journal, one) for one in held)


def test_a_file_that_is_overwritten_in_place_has_changed(journal, tmp_path):
    """A hard link shares its bytes with the original. The fingerprint says so, even for the same size."""
    path = tmp_path / "last.ckpt"
    path.write_bytes(b"a" * LARGE)
    held = HeldFiles(journal).hold_file(path)
    path.write_bytes(b"b" * LARGE)
    assert has_changed(journal, held)


def test_a_small_file_that_is_overwritten_in_place_is_kept(journal, tmp_path):
    """It is copied, so nothing a program does changes it."""
    path = tmp_path / "metrics.json"
    path.write_bytes(b"{}")
    held = HeldFiles(journal).hold_file(path)
    path.write_bytes(b"{'later': 1}")
    assert content_of(journal, held).read_bytes() == b"{}"
    assert not has_changed(journal, held)


def test_a_file_that_is_being_written_is_not_copied(journal, tmp_path):
    """Its record says so, and what is written later is in the claim."""
    path = tmp_path / "async.ckpt"
    with path.open("wb", buffering=0) as file:
        file.write(b"first")
        held = HeldFiles(journal).hold_file(path)
        file.write(b" second")
    assert (held.way, held.writing) == ("link", True)
    assert content_of(journal, held).read_bytes() == b"first second"


def test_a_link_to_a_file_is_followed(journal, tmp_path):
    """The claim is on the file, so the link may go."""
    (tmp_path / "epoch=3.ckpt").write_bytes(b"x" * LARGE)
    (tmp_path / "last.ckpt").symlink_to("epoch=3.ckpt")
    held = HeldFiles(journal).hold_file(tmp_path / "last.ckpt")
    (tmp_path / "last.ckpt").unlink()
    (tmp_path / "epoch=3.ckpt").unlink()
    assert content_of(journal, held).read_bytes() == b"x" * LARGE


def test_what_is_no_ordinary_file_is_refused(journal, tmp_path):
    """A pipe, a socket, a device, a folder, a missing file, a broken link: the text says what to do."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "broken").symlink_to("nothing")
    (tmp_path / "circle").symlink_to("circle")
    held_files = HeldFiles(journal)
    with tempfile.TemporaryDirectory() as short, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{short}/s")
        texts = {
            tmp_path / "pipe": "no ordinary file",
            Path(short, "s"): "no ordinary file",
            Path("/dev/null"): "no ordinary file",
            tmp_path / "folder": "no ordinary file",
            tmp_path / "nothing": "there is no file at .* Log it after it is written",
            tmp_path / "broken": "is a link to a file that is not there",
            tmp_path / "circle": "circle of links",
        }
        for path, text in texts.items():
            with pytest.raises(ArtifactError, match=text):
                held_files.hold_file(path)
    assert entries(journal.path) == []


def test_an_unreadable_file_is_refused(journal, tmp_path, monkeypatch):
    """The text names it."""
    path = tmp_path / "secret"
    path.write_bytes(b"x")
    opened = os.open

    def refuse(name: str, *args: Any, **options: Any) -> int:
        if str(name) == str(path):  # for root nothing is unreadable
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(name, *args, **options)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(ArtifactError, match="you may not read"):
        HeldFiles(journal).hold_file(path)


def test_a_file_that_takes_no_link_is_held_by_its_path(journal, tmp_path, no_links):
    """FAT has no hard links, and the system refuses those to another user's files."""
    path = tmp_path / "other.bin"
    path.write_bytes(b"x" * LARGE)
    held = HeldFiles(journal).hold_file(path)
    assert held.way == "original"
    assert targets(journal) == [path]
    release(journal.path, held.name)
    assert path.read_bytes() == b"x" * LARGE
    assert entries(journal.path) == []


def test_a_claim_on_another_file_system_lies_beside_the_original(journal, elsewhere):
    """In a hidden folder that is not in the folder of the checkpoint, and that goes with the claim."""
    folder = elsewhere / "out" / "checkpoint-500"
    folder.mkdir(parents=True)
    path = folder / "model.bin"
    path.write_bytes(b"x" * LARGE)
    held = HeldFiles(journal).hold_file(path)
    path.unlink()
    folder.rmdir()  # so nothing was added to it
    assert held.way == "link"
    assert content_of(journal, held).read_bytes() == b"x" * LARGE
    (hidden,) = [claim.parent for claim in targets(journal)]
    assert hidden.stat().st_mode & 0o777 == 0o700
    release(journal.path, held.name)
    assert not hidden.exists()
    assert waiting_in(journal.path) == (0, 0)


def test_a_removed_journal_takes_its_claims_along(journal, elsewhere):
    """Also those in hidden folders. The originals stay."""
    path = elsewhere / "model.bin"
    path.write_bytes(b"x" * LARGE)
    held_files = HeldFiles(journal)
    for _ in range(2):
        held_files.hold_file(path)
    (first, second) = targets(journal)
    assert first.parent == second.parent
    journal.remove()
    assert not first.parent.exists()
    assert path.read_bytes() == b"x" * LARGE
    assert not journal.path.exists()


def test_a_delivered_journal_takes_its_claims_along(journal, elsewhere):
    """What waits for the trainer to read it has no files any more."""
    path = elsewhere / "model.bin"
    path.write_bytes(b"x" * LARGE)
    HeldFiles(journal).hold_file(path)
    (claim,) = targets(journal)
    journal.meta.write_text("{}")
    journal.mark_delivered()
    assert not claim.parent.exists()
    assert not (journal.path / "files").exists()


def test_a_claim_on_a_folder_keeps_all_files_under_it(journal, tmp_path):
    """Files in nested folders, small and large, are there after the original is gone."""
    folder = tmp_path / "checkpoint-500"
    contents = {"a.json": b"{}", "nested/deep/model.bin": os.urandom(300_000)}
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    held = HeldFiles(journal).hold_folder(folder)
    for name in contents:
        (folder / name).unlink()
    assert {name: (content_of(journal, held) / name).read_bytes() for name in contents} == contents
    assert (held.way, held.size) == ("link", 300_002)
    assert not has_changed(journal, held)
    assert waiting_in(journal.path) == (2, 300_002)
