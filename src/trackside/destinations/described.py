"""What a destination says of an artifact whose contents it does not keep."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from trackside.journal.format import ArtifactRecord


class Described(NamedTuple):
    """An artifact in a few fields."""

    kind: str
    place: str
    """Its path below the run's artifacts, or its key."""
    path: str | None
    """The file or folder that was logged, as an absolute path, masked. None for values."""
    size: int | None
    """Bytes that were kept in the journal. None where the record says it all."""


def describe(record: ArtifactRecord) -> Described:
    """Describe ``record``."""
    held = record.held
    if held is None:
        return Described(record.kind, record.place, None, None)
    return Described(record.kind, record.place, redact(held.source) or None, held.size)
