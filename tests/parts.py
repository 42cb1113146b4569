"""What is behind a run, for tests that look inside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.journal.reader import JournalReader
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


def records_of(run: Run) -> list[Any]:
    """Everything in the run's journal."""
    reader = JournalReader(journal_of(run))
    try:
        return [entry.record for entry in reader.read()]
    finally:
        reader.close()


def kinds_of(run: Run) -> list[str]:
    """The lifecycle events in the run's journal."""
    return [record.kind for record in records_of(run) if hasattr(record, "kind")]


def steps_of(run: Run) -> list[int]:
    """The steps in the run's journal."""
    return [record.step for record in records_of(run) if hasattr(record, "step")]
