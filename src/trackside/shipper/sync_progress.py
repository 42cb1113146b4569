"""How far the delivery of a journal is, for whoever waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trackside.journal.cursor import Cursor, load_cursor
from trackside.journal.file_counts import FileCounts
from trackside.shipper.inventory import FilesReport, report
from trackside.text import files_text, size_text

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import State


class SyncProgress(msgspec.Struct, frozen=True):
    """What is done of a journal, and what is left. Files are counted as ``trackside status`` counts them."""

    points: int = 0
    points_total: int = 0
    files: int = 0
    files_total: int = 0
    bytes_waiting: int = 0
    """Without those of the current file that went out."""

    @property
    def files_waiting(self) -> int:
        """How many are left."""
        return self.files_total - self.files

    @property
    def left(self) -> str:
        """What is left of the files, for a person. Empty if nothing is."""
        if not self.files_waiting:
            return ""
        verb = "waits" if self.files_waiting == 1 else "wait"
        return f"{files_text(self.files_waiting)}, {size_text(self.bytes_waiting)} {verb}"


class ProgressWatch:
    """Watches ``journal``, which a shipper delivers. How much there is of it is counted once."""

    def __init__(self, journal: JournalDirectory) -> None:
        self._journal = journal
        first = report(journal)
        files = FilesReport() if first is None else first.files
        self._settled_before = _slowest(_cursors(journal)).bytes_settled
        self._bytes_before = files.bytes_waiting
        self.last = SyncProgress(
            0,
            0 if first is None else first.shipped + first.rejected + first.pending,
            files.delivered + files.replaced + files.rejected,
            files.delivered + files.replaced + files.rejected + files.waiting,
            files.bytes_waiting,
        )

    def look(self, state: State | None) -> SyncProgress | None:
        """How far it is now. None if nothing can be read of it."""
        cursors = _cursors(self._journal)
        if not cursors:
            return None
        files, total = _slowest(cursors), self.last.files_total
        gone = files.bytes_settled - self._settled_before + _sent(state)
        self.last = msgspec.structs.replace(
            self.last,
            points=min(cursor.shipped + cursor.rejected for cursor in cursors),
            files=min(files.settled, total),
            bytes_waiting=max(0, self._bytes_before - gone) if files.settled < total else 0,
        )
        return self.last

    def delivered(self) -> SyncProgress:
        """All of it."""
        last = self.last
        return SyncProgress(last.points_total, last.points_total, last.files_total, last.files_total)


def _cursors(journal: JournalDirectory) -> list[Cursor]:
    return [load_cursor(path) for path in journal.cursors()]


def _slowest(cursors: list[Cursor]) -> FileCounts:
    """The account of the destination that is furthest behind with files."""
    counts = [cursor.files for cursor in cursors if cursor.files.takes or not cursor.position.seq]
    return min(counts, key=lambda found: found.settled, default=FileCounts())


def _sent(state: State | None) -> int:
    """Bytes of the current file that went out."""
    workers = () if state is None else state.workers.values()
    return next((worker.files.sent for worker in workers if worker.files.size), 0)
