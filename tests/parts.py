"""What is behind a run, for tests that look inside."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.session.recording import RecordingRun

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory
    from trackside.session.assembly import Assembly
    from trackside.session.run import Run


def parts_of(run: Run) -> Assembly:
    """The parts of a run that is recorded."""
    assert isinstance(run, RecordingRun)
    return run._assembly


def journal_of(run: Run) -> JournalDirectory:
    """The journal of a run that is recorded."""
    return parts_of(run).journal
