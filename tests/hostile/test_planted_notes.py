"""What others leave under the names of a journal's files, or of the notes of other ranks, has no effect."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.hostile.strangers import files_in
from tests.support.journals import make
from trackside.destinations.context import ID_LENGTH, DestinationContext
from trackside.events import LifecycleEvent
from trackside.journal import trust
from trackside.journal.directory import create_directory
from trackside.journal.files import write_atomically
from trackside.journal.format import ConfigRecord
from trackside.journal.lock import JournalLock
from trackside.journal.meta import Meta, RunInfo
from trackside.journal.opening import UnfitFileError, open_own
from trackside.journal.outbox import Outbox
from trackside.journal.provenance import why_untrusted
from trackside.journal.trust import UntrustedError
from trackside.lifecycle.crash_notes import (
    CLOCKS_DIFFER_MS,
    expect_notes,
    forget_notes,
    notes_directory,
    read_notes,
)
from trackside.lifecycle.exit_code import ExitCodeNote
from trackside.shipper.dead_letters import RejectedFile

if TYPE_CHECKING:
    from pathlib import Path


def note_of(at_ms: int) -> bytes:
    """What a note of that time says."""
    crash = LifecycleEvent("crashed", message="planted", error_type="RuntimeError", timestamp_ms=at_ms)
    return msgspec.json.encode(crash)


EVIL_ID = "../../../../etc/cron.d"


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """The folder of a job's notes, with one in it."""
    expect_notes(tmp_path, "job")
    folder = notes_directory(tmp_path, "job")
    write_atomically(folder / "rank-1.json", note_of(2_000_000))
    return folder


def ranks_heard(root: Path, since_ms: int = 1_000_000) -> list[int]:
    """Ranks whose notes count."""
    return [note.rank for note in read_notes(root, "job", since_ms=since_ms)]


def test_a_note_that_counts(tmp_path: Path, notes: Path) -> None:
    """It is this user's, and younger than the run. The folders are this user's alone."""
    assert ranks_heard(tmp_path) == [1]
    for folder in (notes, notes.parent):
        assert folder.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("where", ["folder", "note"])
def test_a_note_that_others_can_have_written(tmp_path: Path, notes: Path, where: str) -> None:
    """Neither a folder nor a note that others can write to is read, nor one of another user's."""
    (notes if where == "folder" else notes / "rank-1.json").chmod(0o777)
    assert ranks_heard(tmp_path) == []
    (notes if where == "folder" else notes / "rank-1.json").chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        assert ranks_heard(tmp_path) == []
    assert ranks_heard(tmp_path) == [1]


def test_a_note_from_before_the_run(tmp_path: Path, notes: Path) -> None:
    """What it says of its time does not count, nor the time that ``touch`` sets: only the kernel's does."""
    path = notes / "rank-1.json"
    later = path.lstat().st_ctime_ns // 1_000_000 + CLOCKS_DIFFER_MS + 1000
    write_atomically(path, note_of(later + 5000))
    os.utime(path, (later / 1000, later / 1000))
    assert ranks_heard(tmp_path, since_ms=later + CLOCKS_DIFFER_MS) == []
    assert ranks_heard(tmp_path, since_ms=later - CLOCKS_DIFFER_MS) == [1]


def test_two_users_share_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one's private folder of notes is not in the way of the second one's."""
    mine = notes_directory(tmp_path, "job")
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert notes_directory(tmp_path, "job").parent not in {mine.parent, tmp_path}


def test_links_among_the_notes(tmp_path: Path) -> None:
    """Neither read nor written to, and what they lead to is not tidied up."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "rank-1.json").write_bytes(note_of(2_000_000))
    (victim / "thesis.txt").write_text("years of work")
    os.utime(victim / "thesis.txt", (0, 0))
    folder = notes_directory(tmp_path, "job")
    folder.parent.mkdir()
    folder.symlink_to(victim)
    assert ranks_heard(tmp_path) == []
    forget_notes(tmp_path, "job", since_ms=0)
    assert files_in(victim) == {"rank-1.json", "thesis.txt"}
    folder.unlink()
    folder.mkdir(mode=0o700)
    (folder / "rank-1.exit").symlink_to(victim / "thesis.txt")
    with contextlib.suppress(OSError):
        ExitCodeNote.write_to(folder / "rank-1.exit")
    assert (victim / "thesis.txt").read_text() == "years of work"


def test_links_in_a_journal(tmp_path: Path) -> None:
    """Nothing is uploaded, moved or written through one, and the journal is not used by itself."""
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / "key").write_text("precious")
    journal = make(tmp_path)
    assert why_untrusted(journal) is None
    (journal.path / "artifacts").symlink_to(secrets)
    outbox = Outbox(journal.path)
    assert outbox.pending() == []
    with pytest.raises(UntrustedError):
        outbox.put("config.yaml", "x")
    for path in (journal.log, journal.rejected, journal.lock, journal.state):
        path.symlink_to(secrets / "key")
        with pytest.raises(UnfitFileError):
            open_own(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    with pytest.raises(UnfitFileError):
        JournalLock(journal.lock).acquire()
    rejected = RejectedFile(journal.rejected, "mlflow", after_seq=0)
    with pytest.raises(UnfitFileError):
        rejected.add(ConfigRecord(1, 1, {}, {}), "refused")
    assert (secrets / "key").read_text() == "precious"
    assert files_in(secrets) == {"key"}
    assert (why_untrusted(journal) or "").endswith(": it is a link")


def test_a_change_of_mode_while_the_run_lives(tmp_path: Path) -> None:
    """The process that made or checked the journal reads and writes on. Another one does not begin to."""
    journal = create_directory(tmp_path, "x")
    write_atomically(journal.state, b"1")
    journal.path.chmod(0o770)
    write_atomically(journal.state, b"2")
    trust._checked.clear()
    with pytest.raises(UntrustedError, match="other users can write to it"):
        write_atomically(journal.state, b"3")
    journal.path.chmod(0o700)
    assert journal.state.read_bytes() == b"2"


def test_a_run_id_that_is_a_path(tmp_path: Path) -> None:
    """A server's word is in the names of files, and stays a name."""
    journal = make(tmp_path, run_name="first")
    info = RunInfo(EVIL_ID, "1", "/", None)
    meta = msgspec.json.decode(journal.meta.read_bytes(), type=Meta)
    label = DestinationContext("x", meta, journal.path, run=lambda: info).run_label()
    assert "/" not in label
    assert label.startswith("first-")
    assert len(label) <= len("first-") + ID_LENGTH
