"""Crash notes: how rank 0 learns that it is being stopped because another rank crashed.

torchrun answers the crash of one rank with SIGTERM to the others, so by its own lights rank 0 was killed.
The true status is FAILED, with the other rank's exception: a rank other than 0 leaves a small file under
``TRACKSIDE_DIR`` before it goes down, and the shipper of rank 0 reads it. An exception is noted by
``sys.excepthook``. The C library notes the exit code, which Python passes to no hook
(:mod:`trackside.lifecycle.exit_code`).
A note counts only if it is this user's own (:mod:`trackside.journal.trust`) and younger than the run.
Ranks that share no directory with rank 0 (other nodes without a shared file system) can't tell, and the run
shows KILLED.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING

import msgspec

from trackside.journal.files import make_private_directory, read_json, write_atomically
from trackside.journal.opening import MAX_NOTE
from trackside.journal.trust import open_folder
from trackside.lifecycle.crash import crash_event
from trackside.lifecycle.exit_code import ExitCodeNote, read_exit_code
from trackside.lifecycle.expected import NOTHING_ELSE, Expected
from trackside.lifecycle.in_flight import InFlightException, passing_exception
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from trackside.events import LifecycleEvent

LATEST_MS = 60_000
"""How long after rank 0's death another rank may still say why it died itself."""

CLOCKS_DIFFER_MS = 60_000
"""How far the clock of a file server may be behind this machine's."""

KEPT_MS = 7 * 86_400_000
"""How long notes are kept for a run that nobody has delivered."""

_NOTES = "ranks-"


class CrashNote(msgspec.Struct, frozen=True):
    """What one rank says of its end."""

    rank: int
    at_ms: int
    error_type: str
    message: str
    traceback: str | None
    status: str | None = None
    """What the exception means if it is not a failure."""


def notes_directory(root: Path, job: str) -> Path:
    """Where this user's notes of a job lie: another user's folder in a shared ``root`` takes none of ours."""
    return root / f"{_NOTES}{os.geteuid()}" / job


def holds_notes(name: str) -> bool:
    """Whether a folder of that name holds notes, anybody's, and is no journal."""
    return name.startswith(_NOTES)


def read_notes(root: Path, job: str | None, *, since_ms: int, died_ms: int | None = None) -> list[CrashNote]:
    """The job's notes written since ``since_ms``, the earliest first; of each rank the first.

    ``died_ms`` is when rank 0 died, if it did: what is written much later is of another job that has the same
    ids and address.
    """
    if job is None:
        return []
    written = _written_since(notes_directory(root, job), since_ms - CLOCKS_DIFFER_MS)
    found = [read_json(path, CrashNote, MAX_NOTE) for path in written if path.suffix == ".json"]
    found += [_exit_note(path) for path in written if path.suffix == ".exit"]
    until_ms = died_ms + LATEST_MS if died_ms else sys.maxsize
    in_time = (n for n in found if n is not None and since_ms <= n.at_ms <= until_ms)
    notes = sorted(in_time, key=lambda n: n.at_ms)
    first = {note.rank: note for note in reversed(notes)}
    return [note for note in notes if first[note.rank] is note]


def _written_since(directory: Path, since_ms: int) -> list[Path]:
    """The files in ``directory`` that were last changed since then, whatever they say of themselves.

    A note that was there before the run, in a cloned repository or an archive, is nobody's word on it. The
    kernel sets the time of the change, and no program can.
    """
    found = []
    for path in directory.glob("*"):
        with contextlib.suppress(OSError):
            if path.lstat().st_ctime_ns // 1_000_000 >= since_ms:
                found.append(path)
    return found


def expect_notes(root: Path, job: str | None) -> None:
    """Make the directory in which ranks leave their exit codes: they leave none where nobody reads them."""
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
                if written >= since_ms or written < kept_since:
                    with contextlib.suppress(OSError):
                        os.unlink(name, dir_fd=folder)
        finally:
            os.close(folder)
    for empty in (directory, directory.parent, root):
        with contextlib.suppress(OSError):  # other jobs' notes, other journals
            empty.rmdir()


def _exit_note(path: Path) -> CrashNote | None:
    """The note that an exit code amounts to; None for a clean one, or one that is not written yet."""
    code = read_exit_code(path)
    try:
        rank = int(path.stem.removeprefix("rank-"))
        at_ms = path.lstat().st_mtime_ns // 1_000_000
    except (OSError, ValueError):  # gone meanwhile, or nobody's
        return None
    return CrashNote(rank, at_ms, "SystemExit", f"exit code {code}", None) if code else None


class CrashNoteSink:
    """Leaves the note from the bus, on a rank that has a run, and with it hooks, of its own."""

    stays_attached = True

    def __init__(self, notes: CrashNoteHook) -> None:
        self._notes = notes

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        """Note an exception nobody caught, in whatever thread, and an exit code that says failure."""
        if event.kind in {"crashed", "thread_crashed"}:
            self._notes.note(event)
        elif event.kind == "exited":
            self._notes.note_exit_code()
        elif event.kind == "finishing":  # the run's hooks tell nobody but the run from here on
            self._notes.install()
            self._notes.finish()


class CrashNoteHook:
    """Chains ``sys.excepthook`` on a rank that logs nothing itself, and notes its exit code."""

    def __init__(self, root: Path, job: str, rank: int, expected: Expected = NOTHING_ELSE) -> None:
        self._root = root
        self._job = job
        self._rank = rank
        self._expected = expected
        self._previous = sys.excepthook
        self._process = os.getpid()
        self._passing: InFlightException | None = None

    def install(self) -> None:
        """Hook in."""
        self._previous = sys.excepthook
        sys.excepthook = self._on_exception
        atexit.register(self.note_exit_code)

    def finish(self) -> None:
        """The program says that it is done: unhook, unless an exception is on its way and may yet end it."""
        error = passing_exception()
        if error is None:
            self.uninstall()
        else:
            self._passing = InFlightException(error, self._forget_exit)

    def uninstall(self) -> None:
        """Unhook, unless somebody hooked in on top of us; then only note nothing more."""
        self._job = ""
        atexit.unregister(self.note_exit_code)
        if sys.excepthook == self._on_exception:
            sys.excepthook = self._previous

    def note(self, event: LifecycleEvent) -> None:
        """Leave the note; a directory that can't be written is no reason to hide the exception."""
        if not self._job:
            return
        note = CrashNote(
            self._rank,
            event.timestamp_ms,
            event.error_type or "Exception",
            redact(event.message or ""),
            None if event.traceback is None else redact(event.traceback),
            event.status,
        )
        path = notes_directory(self._root, self._job) / f"rank-{self._rank}.json"
        with contextlib.suppress(OSError):
            make_private_directory(path.parent)
            write_atomically(path, msgspec.json.encode(note))

    def note_exception(
        self, kind: type[BaseException], error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the note of an exception that ends this rank."""
        self.note(crash_event("crashed", kind, error, trace, expected=self._expected))

    def _on_exception(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if self._passing is None or self._passing.is_behind(error):
            with contextlib.suppress(Exception):
                self.note_exception(kind, error, trace)
        self._previous(kind, error, trace)

    def _forget_exit(self) -> None:
        """The exception was handled: how the process ends is none of the run's business any more."""
        self._job = ""

    def note_exit_code(self) -> None:
        """Have the exit code noted, which is settled only after all of Python is gone."""
        if self._job and os.getpid() == self._process:  # a forked child's exit is its own
            with contextlib.suppress(OSError):  # no such directory: rank 0's run is settled
                ExitCodeNote.write_to(notes_directory(self._root, self._job) / f"rank-{self._rank}.exit")
