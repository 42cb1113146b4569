"""What of a delivered journal still waits to go out, or was refused: files, and params."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.journal.outbox import Outbox
from trackside.shipper.configs import read_waiting

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import Meta


def waiting_names(journal: JournalDirectory, meta: Meta) -> list[str]:
    """Names of the artifacts that wait to be uploaded, and "params" where a configuration waits."""
    names = [path.name for outbox in _outboxes(journal, meta) for path in outbox.pending()]
    waits = any(read_waiting(journal.path, name) for name in meta.destination_names)
    return [*names, *(["params"] if waits else [])]


def has_refused(journal: JournalDirectory, meta: Meta) -> bool:
    """Whether a record or an artifact was rejected for good."""
    return journal.rejected.exists() or any(outbox.refused() for outbox in _outboxes(journal, meta))


def _outboxes(journal: JournalDirectory, meta: Meta) -> list[Outbox]:
    return [Outbox(journal.path), *(Outbox(journal.path, spec.name) for spec in meta.destinations)]
