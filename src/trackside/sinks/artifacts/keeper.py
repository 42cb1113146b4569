"""Keeps what is logged as files: takes the claim, then writes the record.

Invariants:

* Nothing is raised, whatever a value, the disk or the journal raises. What is not kept is counted.
* When ``keep`` returns, the record is in the journal and its file is held, or it is counted.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from trackside.artifact_events import (
    AudioEvent,
    CheckpointEvent,
    DatasetEvent,
    DocumentEvent,
    FigureEvent,
    FileEvent,
    FolderEvent,
    HistogramEvent,
    ImageEvent,
    ModelEvent,
    TableEvent,
    TextEvent,
    VideoEvent,
)
from trackside.errors import ArtifactError
from trackside.journal.claims import ORIGINAL
from trackside.lifecycle.crash import text_of
from trackside.redaction.redact import redact
from trackside.sinks.artifacts.audio import audio_record
from trackside.sinks.artifacts.checkpoints import checkpoint_record
from trackside.sinks.artifacts.datasets import dataset_record
from trackside.sinks.artifacts.documents import document_record
from trackside.sinks.artifacts.figures import figure_record
from trackside.sinks.artifacts.files import file_record, folder_record
from trackside.sinks.artifacts.histograms import histogram_record
from trackside.sinks.artifacts.images import image_record
from trackside.sinks.artifacts.keeping import Keeping
from trackside.sinks.artifacts.models import model_record
from trackside.sinks.artifacts.on_device import fetch_values
from trackside.sinks.artifacts.tables import table_record
from trackside.sinks.artifacts.texts import text_record
from trackside.sinks.artifacts.video import video_record
from trackside.sinks.described import noun_of, subject_of
from trackside.system.files import is_disk_full
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.events import ArtifactEvent
    from trackside.journal.format import ArtifactRecord
    from trackside.journal.writer import JournalWriter
    from trackside.sinks.artifacts.descriptions import OnDrop
    from trackside.sinks.fetching import Fetcher

_RECORDS: dict[type[ArtifactEvent], Callable[[Any, Keeping], ArtifactRecord]] = {
    FileEvent: file_record,
    FolderEvent: folder_record,
    TextEvent: text_record,
    DocumentEvent: document_record,
    TableEvent: table_record,
    DatasetEvent: dataset_record,
    ImageEvent: image_record,
    FigureEvent: figure_record,
    HistogramEvent: histogram_record,
    AudioEvent: audio_record,
    VideoEvent: video_record,
}
"""What makes the record of an event of each kind."""

_MOST_NAMED = 100
"""Reasons. Each is told once, and most of them name a file."""


class ArtifactKeeper:
    """Keeps artifacts in ``journal``.

    ``warn(subject, text, once_for=...)`` tells the user once for each ``once_for``, or else each subject.
    ``last_step`` gives the step of the latest sample, which what has no step of its own gets. ``cap``: the
    bytes on a disk that files which wait may take. ``fetcher``: what copies values from accelerators.
    """

    def __init__(
        self,
        journal: JournalWriter,
        *,
        warn: Callable[..., None],
        last_step: Callable[[], int | None] = lambda: None,
        cap: int | None = None,
        fetcher: Fetcher | None = None,
    ) -> None:
        self._journal = journal
        self._fetcher = fetcher
        self._held = Keeping(journal, warn=warn, last_step=last_step, cap=cap, leave_out=self._leave_out)
        self._warn = warn
        self._reasons = Once(_MOST_NAMED)
        self._records: dict[type[ArtifactEvent], Callable[[Any, Keeping], ArtifactRecord]] = {
            **_RECORDS,
            CheckpointEvent: self._described(checkpoint_record),
            ModelEvent: self._described(model_record),
        }

    def keep(self, event: ArtifactEvent) -> bool:
        """Keep ``event``. Returns whether it is in the journal, or will be once its values have arrived."""
        if self._journal.is_closed:  # a forked child, or after the end: its parent's files are not touched
            return False
        lose = partial(self._lose, event)
        try:
            if self._fetcher is not None and fetch_values(
                event, self._fetcher, self._held, keep=self._keep, lose=lose
            ):
                return True
        except Exception as error:
            lose(text_of(error) if isinstance(error, ArtifactError) else self._why(error))
            return False
        return self._keep(event)

    def _keep(self, event: ArtifactEvent) -> bool:
        reason = self.attempt(event)
        if reason is not None:
            self._lose(event, reason)
        return reason is None

    def attempt(self, event: ArtifactEvent, *, outlives: bool = False) -> str | None:
        """Keep ``event``. Returns why that is not possible, for a caller who then does something else.

        ``outlives``: only where what was logged may be deleted right away.
        """
        if self._journal.is_closed:
            return "the run is over"
        held = None
        try:
            record = self._records[type(event)](event, self._held)
            held = record.held
            if outlives and held is not None and held.way == ORIGINAL:
                reason = "it can't be linked to"
            elif self._journal.append(record):
                self._journal.note_artifact(0 if held is None else held.size)
                return None
            else:
                reason = "the journal has no room"
        except ArtifactError as error:
            reason = str(error)
        except Exception as error:
            reason = self._why(error)
        if held is not None:
            self._held.let_go(held)
        return reason

    def _described(
        self, record: Callable[[Any, Keeping, OnDrop], ArtifactRecord]
    ) -> Callable[[Any, Keeping], ArtifactRecord]:
        return lambda event, held: record(event, held, partial(self._drop, event))

    def _leave_out(self, reason: str) -> None:
        """Count a file of a folder that is kept without it."""
        self._count("a file of a folder", reason, once_for=f"a file of a folder: {reason}")

    def _lose(self, event: ArtifactEvent, reason: str) -> None:
        # Once for each reason, whatever it happens to: a loop may give each image another name.
        self._count(subject_of(event, reason), reason, once_for=f"{noun_of(event)}: {reason}")

    def _count(self, subject: str, reason: str, *, once_for: str) -> None:
        is_new = self._reasons.is_first(once_for)
        self._journal.scoreboard.note_not_kept(redact(f"{subject}: {reason}") if is_new else None)
        if is_new:
            self._warn(subject, f"is not logged: {reason}", once_for=once_for)
            if self._reasons.is_full:
                self._warn("what else can't be logged", "is counted, and not named any more")

    def _drop(self, event: ArtifactEvent, what: str, reason: str) -> None:
        """Count a part of something that is kept without it."""
        self._journal.scoreboard.note_dropped(1)
        self._warn(f"{what} of {subject_of(event)}", f"is dropped: {reason}", once_for=f"{what} of a model")

    def _why(self, error: Exception) -> str:
        if isinstance(error, OSError) and is_disk_full(error):
            return "the journal's disk is full. Make room, or set TRACKSIDE_DIR to a folder on another disk"
        if isinstance(error, OSError) and not self._journal.directory.path.exists():
            return "the journal was removed"
        return f"{type(error).__name__}: {text_of(error)}"
