"""Texts, masked, as small files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.artifact_names import artifact_file
from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from trackside.artifact_events import TextEvent
    from trackside.journal.held_files import HeldFiles


def text_record(event: TextEvent, held: HeldFiles) -> ArtifactRecord:
    """Keep the text. Raises :class:`ArtifactError` for anything else, and ``OSError``."""
    if not isinstance(event.text, str):
        raise ArtifactError(f"log_text() takes a text, not {type(event.text).__name__}. Pass str(it)")
    name = artifact_file(event.artifact_file)
    content = redact(event.text).encode()
    return ArtifactRecord(0, event.timestamp_ms, "text", name, held=held.keep_bytes(content), form="file")
