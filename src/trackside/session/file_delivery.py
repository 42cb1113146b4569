"""The trainer's view of files: how many are delivered, which wait, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.journal.artifact_queue import read_queue
from trackside.journal.cursor import load_cursor
from trackside.journal.outbox import Outbox
from trackside.redaction.redact import redact
from trackside.session.run import Files
from trackside.system.clock import steady
from trackside.text import size_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from trackside.journal.cursor import Cursor
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import State
    from trackside.journal.writer import JournalWriter

NUDGE_EVERY = 0.5

MOST_NAMED = 5


class WaitForFiles:
    """Whether the destinations have the files of a journal, for ``flush()``.

    What a destination puts off, rows of a table, is asked for again and again: a file that came before it may
    have kept it from being delivered.
    """

    def __init__(
        self, journal: JournalDirectory, destinations: Sequence[str], nudge: Callable[[], object]
    ) -> None:
        self._journal = journal
        self._destinations = destinations
        self._nudge = nudge
        self._next_nudge = 0.0

    def have(self, seq: int, state: State) -> bool:
        """Whether every destination that has not failed permanently has all files up to record ``seq``.

        Files that are for the run's end don't count.
        """
        refusing = {name for name, worker in state.workers.items() if worker.refused}
        names = [name for name in self._destinations if name not in refusing]
        if all(load_cursor(self._journal.cursor(name)).files.has(seq) for name in names):
            return True
        if steady() >= self._next_nudge:
            self._next_nudge = steady() + NUDGE_EVERY
            self._nudge()
        return False


def files_in(cursors: Sequence[Cursor], writer: JournalWriter) -> Files:
    """The account of all files. Of several destinations, the one that is furthest behind counts."""
    not_kept = writer.scoreboard.artifacts_not_kept
    counts = [cursor.files for cursor in cursors if cursor.files.takes]
    if not counts:
        if all(cursor.position.seq for cursor in cursors):  # none of them takes files
            return Files(not_kept=not_kept)
        return Files(waiting=writer.artifacts, bytes_waiting=writer.artifact_bytes, not_kept=not_kept)
    slowest = min(counts, key=lambda found: found.settled)
    unread = max(0, writer.artifacts - slowest.settled - slowest.waiting)
    read_bytes = slowest.bytes_settled + slowest.bytes_waiting
    return Files(
        slowest.delivered,
        slowest.replaced,
        max(found.rejected for found in counts),
        slowest.waiting + unread,
        slowest.bytes_waiting + max(0, writer.artifact_bytes - read_bytes),
        not_kept,
    )


def files_wait(cursors: Iterable[Cursor]) -> bool:
    """Whether files wait that a shipper has read."""
    return any(not cursor.files.is_done for cursor in cursors)


def files_error(state: State | None) -> str | None:
    """What files fail with now. None while they don't."""
    workers = {} if state is None else state.workers
    return next((worker.files.error for worker in workers.values() if worker.files.error), None)


def waiting_names(journal: JournalDirectory, destinations: Sequence[str]) -> list[str]:
    """The names of the files that are not uploaded yet, each once."""
    names = [path.name for path in Outbox(journal.path).pending()]
    for destination in destinations:
        names += [redact(record.place) for record in read_queue(journal.path, destination).waiting.values()]
        if not load_cursor(journal.cursor(destination)).files.is_done and not names:
            names.append("rows of a table")
    return list(dict.fromkeys(names))


def some_of(names: Sequence[str]) -> str:
    """The first few names, and how many more there are."""
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def describe_files(state: State | None) -> str:
    """Why files wait, in a few words."""
    error = files_error(state) or (None if state is None else state.artifacts_error)
    if error is not None:
        return error
    current = (
        [] if state is None else [worker.files for worker in state.workers.values() if worker.files.size]
    )
    if not current:
        return "the artifact store has not answered yet"
    first = current[0]
    return f"{size_text(first.sent)} of {size_text(first.size)} of {first.place} have gone out"
