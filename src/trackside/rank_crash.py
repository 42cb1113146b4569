"""Crash notes: how rank 0 learns that it is being stopped because another rank crashed.

torchrun answers the crash of one rank with SIGTERM to the others, so by its own lights rank 0 was killed.
The true status is FAILED, with the other rank's exception: a rank other than 0 leaves a small file under
``TRACKSIDE_DIR`` before it goes down, and the shipper of rank 0 reads it. Ranks that share no directory
with rank 0 (other nodes without a shared file system) can't tell, and the run shows KILLED.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from typing import TYPE_CHECKING

import msgspec

from trackside.crash import crash_event
from trackside.journal.directory import DIRECTORY_MODE, read_json, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import TracebackType

    from trackside.events import LifecycleEvent

_JOB_VARIABLES = (
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "MASTER_ADDR",
    "MASTER_PORT",
)


class CrashNote(msgspec.Struct, frozen=True):
    """What one rank says of its end."""

    rank: int
    at_ms: int
    error_type: str
    message: str
    traceback: str | None


def job_key(environment: Mapping[str, str] = os.environ) -> str | None:
    """A text all ranks of a job share and no other job has; None outside a launcher's job."""
    values = [environment.get(name, "") for name in _JOB_VARIABLES]
    if not any(values):
        return None
    return hashlib.blake2b("\0".join(values).encode(), digest_size=8).hexdigest()


def notes_directory(root: Path, job: str) -> Path:
    """Where the notes of a job lie."""
    return root / "ranks" / job


def read_notes(root: Path, job: str | None, *, since_ms: int) -> list[CrashNote]:
    """The job's notes written since ``since_ms``, the earliest first."""
    if job is None:
        return []
    found = [read_json(path, CrashNote) for path in notes_directory(root, job).glob("*.json")]
    return sorted((n for n in found if n is not None and n.at_ms >= since_ms), key=lambda n: n.at_ms)


def forget_notes(root: Path, job: str | None) -> None:
    """Delete the job's notes: the run they belong to is settled."""
    if job is None:
        return
    directory = notes_directory(root, job)
    for path in directory.glob("*.json"):
        path.unlink(missing_ok=True)
    for empty in (directory, directory.parent, root):
        with contextlib.suppress(OSError):  # other jobs' notes, other journals
            empty.rmdir()


class CrashNoteSink:
    """Leaves the note from the bus, on a rank that has a run, and with it hooks, of its own."""

    def __init__(self, notes: CrashNoteHook) -> None:
        self._notes = notes

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        """Note an exception nobody caught, in whatever thread, and an exit that says failure."""
        failed_exit = event.kind == "exited" and event.exit_code not in {None, 0}
        if failed_exit or event.kind in {"crashed", "thread_crashed"}:
            self._notes.note(event)


class CrashNoteHook:
    """Chains ``sys.excepthook`` on a rank that logs nothing itself."""

    def __init__(self, root: Path, job: str, rank: int) -> None:
        self._root = root
        self._job = job
        self._rank = rank
        self._previous = sys.excepthook

    def install(self) -> None:
        """Hook in."""
        self._previous = sys.excepthook
        sys.excepthook = self._on_exception

    def uninstall(self) -> None:
        """Unhook, unless somebody hooked in on top of us; then only note nothing more."""
        self._job = ""
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
            event.message or "",
            event.traceback,
        )
        path = notes_directory(self._root, self._job) / f"rank-{self._rank}.json"
        with contextlib.suppress(OSError):
            path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
            write_atomically(path, msgspec.json.encode(note))

    def _on_exception(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(Exception):
            self.note(crash_event("crashed", kind, error, trace))
        self._previous(kind, error, trace)
