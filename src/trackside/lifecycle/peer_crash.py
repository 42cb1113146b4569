"""How rank 0 learns that it is being stopped because another rank crashed: that rank leaves a note.

torchrun answers the crash of one rank with SIGTERM to the others, so rank 0 alone would conclude that it was
killed. The true status is FAILED, with the other rank's exception. So a rank other than 0 leaves a crash note
(:mod:`trackside.lifecycle.crash_notes`) before it goes down. ``sys.excepthook`` sees an exception. The C
library notes the exit code, which Python passes to no hook (:mod:`trackside.lifecycle.exit_code`).

Ranks that share no directory with rank 0 (other nodes without a shared file system) can't tell, and the run
shows KILLED.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from trackside.events import LifecycleEvent, as_final
from trackside.lifecycle.crash import crash_event
from trackside.lifecycle.crash_notes import note_exit_code, write_note
from trackside.lifecycle.expected import NOTHING_ELSE, Expected
from trackside.lifecycle.in_flight import InFlightException, passing_exception
from trackside.lifecycle.replaced import Replaced
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType


class CrashNoteSink:
    """Leaves the note from the bus, on a rank that has a run of its own, and with it hooks."""

    stays_attached = True

    def __init__(self, notes: CrashNoteHook) -> None:
        self._notes = notes

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        """Note an uncaught exception in any thread, and an exit code that says failure."""
        if event.kind in {"crashed", "thread_crashed"}:
            self._notes.note(event)
        elif event.kind == "exited":
            self._notes.note_exit_code()
        elif event.kind == "finishing":  # from here on the run's hooks serve the run alone
            self._notes.install()
            self._notes.finish()


class CrashNoteHook:
    """Chains ``sys.excepthook`` on a rank that logs nothing itself, and notes its exit code."""

    def __init__(self, root: Path, job: str, rank: int, expected: Expected = NOTHING_ELSE) -> None:
        self._root = root
        self._job = job
        self._rank = rank
        self._expected = expected
        self._hook = Replaced(sys, "excepthook", self._on_exception)
        self._process = os.getpid()
        self._passing: InFlightException | None = None

    def install(self) -> None:
        """Hook in. A second call changes nothing."""
        self._hook.replace()
        atexit.register(self.note_exit_code)

    def finish(self) -> None:
        """The program says that it is done: unhook, unless an exception is on its way and may yet end it."""
        error = passing_exception()
        if error is None:
            self.uninstall()
        else:
            self._passing = InFlightException(error, self.uninstall)  # once it has been handled

    def uninstall(self) -> None:
        """Unhook, and note nothing more."""
        self._job = ""
        atexit.unregister(self.note_exit_code)
        self._hook.restore()

    def note(self, event: LifecycleEvent) -> None:
        """Leave the note. A directory that can't be written is no reason to hide the exception."""
        if self._job:
            with contextlib.suppress(OSError):
                write_note(self._root, self._job, self._rank, _note_of(event))

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
        self._hook.previous(kind, error, trace)

    def note_exit_code(self) -> None:
        """Arrange to note the exit code, which is known only after all of Python is gone."""
        if self._job and os.getpid() == self._process:  # a forked child's exit is its own
            with contextlib.suppress(OSError):  # no such directory: rank 0's run has ended
                note_exit_code(self._root, self._job, self._rank)


def _note_of(event: LifecycleEvent) -> LifecycleEvent:
    """What of ``event`` rank 0 needs, without secrets."""
    return LifecycleEvent(
        "crashed",
        status=as_final(event.status),
        message=redact(event.message or ""),
        error_type=event.error_type or "Exception",
        traceback=None if event.traceback is None else redact(event.traceback),
        timestamp_ms=event.timestamp_ms,
    )
