"""What can't be read of an artifact, and what to say of one that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.errors import RejectedError
from trackside.journal.held_content import content_of, files_under
from trackside.shipper.sending import describe

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import ArtifactRecord


def can_read(journal: JournalDirectory, record: ArtifactRecord) -> bool:
    """Whether all that is held for ``record`` can be opened."""
    if record.held is None:
        return True
    try:
        for path in files_under(content_of(journal, record.held)):
            path.open("rb").close()
    except OSError:
        return False
    return True


def reason_of(error: BaseException) -> str:
    """Why an artifact is not delivered, for a person."""
    if isinstance(error, RejectedError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error.__cause__, OSError):
        return str(error)
    return describe(error)
