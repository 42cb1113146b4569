"""Crash notes: small files in which the ranks of a job tell rank 0 why they ended.

A rank other than 0 leaves its note under ``TRACKSIDE_DIR`` (:mod:`trackside.lifecycle.peer_crash`), and the
shipper of rank 0 reads it. A note is the rank's ``crashed`` event as JSON, or the exit code that the C
library has noted (:mod:`trackside.lifecycle.exit_code`). The rank is part of the file's name.

Invariant: a note counts only if it is this user's own (:mod:`trackside.journal.trust`), younger than the run,
and not much younger than the death of rank 0.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from trackside.events import LifecycleEvent
from trackside.journal.files import make_private_directory, read_json, write_atomically
from trackside.journal.opening import MAX_NOTE
from trackside.journal.trust import open_folder
from trackside.journal.version import stamped, why_newer_file
from trackside.lifecycle.evidence import RankCrash
from trackside.lifecycle.exit_code import ExitCodeNote, read_exit_code

if TYPE_CHECKING:
    from pathlib import Path

LATEST_MS = 60_000
"""How long after rank 0's death another rank may still say why it died itself."""

CLOCKS_DIFFER_MS = 60_000
"""How far the clock of a file server may be behind this machine's."""

KEPT_MS = 7 * 86_400_000
"""How long notes are kept for a run that is not delivered yet."""

_NOTES = "ranks-"
_FILE = "rank-"


def notes_directory(root: Path, job: str) -> Path:
    """Where this user's notes of a job lie: another user's folder in a shared ``root`` takes none of ours."""
    return root / f"{_NOTES}{os.geteuid()}" / job


def holds_notes(name: str) -> bool:
    """Whether a folder of that name holds notes of any user, and is no journal."""
    return name.startswith(_NOTES)


def write_note(root: Path, job: str, rank: int, event: LifecycleEvent) -> None:
    """Leave the note of a crash. Raises ``OSError``."""
    path = notes_directory(root, job) / f"{_FILE}{rank}.json"
    make_private_directory(path.parent)
    write_atomically(path, stamped(msgspec.json.encode(event)))


def note_exit_code(root: Path, job: str, rank: int) -> None:
    """Arrange to note this process's exit code. Raises ``OSError`` if rank 0 expects no notes."""
    ExitCodeNote.write_to(notes_directory(root, job) / f"{_FILE}{rank}.exit")


def read_notes(root: Path, job: str | None, *, since_ms: int, died_ms: int | None = None) -> list[RankCrash]:
    """The job's notes written since ``since_ms``, the earliest first. Each rank's first note counts.

    ``died_ms`` is when rank 0 died, if it did: what is written much later is of another job that has the same
    ids and address.
    """
    if job is None:
        return []
    written = _written_since(notes_directory(root, job), since_ms - CLOCKS_DIFFER_MS)
    found = [_read_note(path) for path in written if path.suffix in {".json", ".exit"}]
    until_ms = died_ms + LATEST_MS if died_ms else sys.maxsize
    in_time = (n for n in found if n is not None and since_ms <= n.event.timestamp_ms <= until_ms)
    notes = sorted(in_time, key=lambda n: n.event.timestamp_ms)
    first = {note.rank: note for note in reversed(notes)}
    return [note for note in notes if first[note.rank] is note]


def _written_since(directory: Path, since_ms: int) -> list[Path]:
    """The files in ``directory`` that were last changed since then, whatever they say of themselves.

    A note that was there before the run, in a cloned repository or an archive, says nothing about it. The
    kernel sets the time of the change, and no program can.
    """
    found = []
    for path in directory.glob("*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_ctime_ns // 1_000_000 >= since_ms:
                found.append(path)
    return found


def expect_notes(root: Path, job: str | None) -> None:
    """Make the directory in which ranks leave their exit codes. Without it they leave none."""
    if job is not None:
        with contextlib.suppress(OSError):
            make_private_directory(notes_directory(root, job))


def forget_notes(root: Path, job: str | None, *, since_ms: int) -> None:
    """Delete the job's notes written since ``since_ms``: the final status of their run is set.

    Older ones may be of an earlier job with the same ids and address, whose run still waits for its server.
    """
    if job is None:
        return
    directory = notes_directory(root, job)
    kept_since = time.time() * 1000 - KEPT_MS
    with contextlib.suppress(OSError):  # a disk that has become read-only is no reason to fail at the end
        folder = open_folder(directory)
        try:
            for name in os.listdir(folder):
                written = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime_ns // 1_000_000
                is_done = written >= since_ms or written < kept_since
                if is_done and not why_newer_file(directory / name, MAX_NOTE):
                    with contextlib.suppress(OSError):
                        os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)
    for empty in (directory, directory.parent, root):
        with contextlib.suppress(OSError):  # other jobs' notes, other journals
            empty.rmdir()


def _read_note(path: Path) -> RankCrash | None:
    """The crash that a file tells of, or None for a clean exit or a file that can't be read as a note."""
    try:
        rank = int(path.stem.removeprefix(_FILE))
        at_ms = path.lstat().st_mtime_ns // 1_000_000
    except (OSError, ValueError):  # gone meanwhile, or of another program
        return None
    if path.suffix == ".json":
        event = read_json(path, LifecycleEvent, MAX_NOTE)
        return None if event is None else RankCrash(rank, event)
    code = read_exit_code(path)  # 0, or None while it is not written yet
    text = f"exit code {code}"
    how = LifecycleEvent("crashed", message=text, error_type="SystemExit", timestamp_ms=at_ms)
    return RankCrash(rank, how) if code else None
