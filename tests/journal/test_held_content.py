"""What may be read of a journal's held files, and what a foreign journal can't reach."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.journal.holding import LARGE, targets
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import write_atomically
from trackside.journal.format import HeldFile
from trackside.journal.held_content import content_of
from trackside.journal.held_files import HeldFiles
from trackside.journal.meta import Meta, Target
from trackside.journal.owner import this_process
from trackside.journal.releasing import release, release_all
from trackside.journal.trust import UntrustedError

if TYPE_CHECKING:
    from pathlib import Path

NAME = "0123456789abcdef"


def link(journal: JournalDirectory, target: Path) -> HeldFile:
    """An entry that links to ``target``, as another user may have made it."""
    (journal.path / "files").mkdir(exist_ok=True)
    (journal.path / "files" / NAME).symlink_to(target)
    return HeldFile(NAME, "link", str(target), 6)


def say_made_in(journal: JournalDirectory, folder: int) -> None:
    """Have the journal say that it was made in the folder with the inode number ``folder``."""
    target = Target("sqlite:///nowhere.db")
    meta = Meta(journal.name, this_process(), target, 0, str(journal.path), 0, folder=folder)
    write_atomically(journal.meta, msgspec.json.encode(meta))


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    """A file of yours that was never logged."""
    path = tmp_path / "id_rsa"
    path.write_bytes(b"secret")
    return path


def test_a_link_out_of_a_journal_is_not_followed(journal, secret):
    """A journal that was copied here could name any file of yours. The text says how to bring files along."""
    held = link(journal, secret)
    with pytest.raises(UntrustedError, match=r"cp -rL"):
        content_of(journal, held)
    release(journal.path, held.name)
    assert secret.read_bytes() == b"secret"
    assert not os.path.lexists(journal.path / "files" / NAME)


def test_an_original_is_read_only_where_the_journal_was_made(journal, secret):
    """There the link is this user's own: the file could not be held in another way."""
    held = link(journal, secret)
    say_made_in(journal, journal.path.stat().st_ino + 1)
    with pytest.raises(UntrustedError):
        content_of(journal, held)
    say_made_in(journal, journal.path.stat().st_ino)
    assert content_of(journal, held).read_bytes() == b"secret"
    secret.unlink()
    with pytest.raises(FileNotFoundError, match="It was deleted"):
        content_of(journal, held)


def test_a_link_in_a_folder_is_not_followed_either(journal, secret):
    """Neither to a file nor to a folder, and neither is removed."""
    folder = journal.path / "files" / NAME
    folder.mkdir(parents=True)
    for name, target in {"file": secret, "folder": secret.parent}.items():
        (folder / name).symlink_to(target)
        with pytest.raises(UntrustedError):
            content_of(journal, HeldFile(NAME, "link", "", 6))
        (folder / name).unlink()
    (folder / "folder").symlink_to(secret.parent)
    release_all(journal.path)
    assert secret.read_bytes() == b"secret"


@pytest.mark.parametrize("name", ["../meta.json", "", "..", "/etc/passwd", "0123456789ABCDEF", NAME + "/x"])
def test_an_entry_of_another_name_is_not_read(journal, name):
    """The name in a record is no path."""
    with pytest.raises(UntrustedError):
        content_of(journal, HeldFile(name, "copy", "", 6))
    release(journal.path, name)
    assert journal.path.exists()


def test_a_link_in_place_of_the_folder_of_entries_is_not_followed(journal, tmp_path):
    """What lies behind it is neither read nor removed."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / NAME).write_bytes(b"mine")
    (journal.path / "files").symlink_to(victim)
    with pytest.raises(UntrustedError):
        content_of(journal, HeldFile(NAME, "copy", "", 4))
    release(journal.path, NAME)
    journal.remove()
    assert (victim / NAME).read_bytes() == b"mine"


def test_the_claims_of_another_journal_are_not_removed(journal, elsewhere, tmp_path):
    """A copy of a journal has the names of its claims, and is not where it was made."""
    (elsewhere / "model.bin").write_bytes(b"x" * LARGE)
    held = HeldFiles(journal).hold_file(elsewhere / "model.bin")
    (claim,) = targets(journal)
    copy = JournalDirectory(tmp_path / "copies" / journal.name)
    shutil.copytree(journal.path, copy.path, symlinks=True)
    assert content_of(copy, held).read_bytes() == b"x" * LARGE
    release_all(copy.path)
    copy.remove()
    assert claim.read_bytes() == b"x" * LARGE


def test_a_journal_that_is_copied_with_what_its_links_name_has_its_files(journal, elsewhere, tmp_path):
    """As to a machine that reaches the server."""
    (elsewhere / "model.bin").write_bytes(b"x" * LARGE)
    held = HeldFiles(journal).hold_file(elsewhere / "model.bin")
    copy = JournalDirectory(tmp_path / "copies" / journal.name)
    shutil.copytree(journal.path, copy.path)
    journal.remove()
    assert content_of(copy, held).read_bytes() == b"x" * LARGE


def test_a_claim_in_a_folder_that_others_write_to_is_not_read(journal, tmp_path):
    """Hidden folders are private."""
    hidden = tmp_path / ".trackside-1-run"
    hidden.mkdir(mode=0o777)
    hidden.chmod(0o777)
    (hidden / NAME).write_bytes(b"theirs")
    with pytest.raises(UntrustedError):
        content_of(journal, link(journal, hidden / NAME))


def test_a_pipe_in_place_of_an_entry_is_not_opened(journal):
    """Whoever reads it would wait for ever."""
    (journal.path / "files").mkdir()
    os.mkfifo(journal.path / "files" / NAME)
    with pytest.raises(UntrustedError, match="no ordinary file"):
        content_of(journal, HeldFile(NAME, "copy", "", 6))


def test_a_claim_that_was_deleted_is_named(journal, elsewhere):
    """By whoever deleted the hidden folder."""
    (elsewhere / "model.bin").write_bytes(b"x" * LARGE)
    held = HeldFiles(journal).hold_file(elsewhere / "model.bin")
    (claim,) = targets(journal)
    shutil.rmtree(claim.parent)
    with pytest.raises(FileNotFoundError, match="deleted, or its disk is not here"):
        content_of(journal, held)
    release(journal.path, held.name)
    with pytest.raises(FileNotFoundError, match="not in the journal any more"):
        content_of(journal, held)
