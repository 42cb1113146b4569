"""Texts and documents, masked, as small files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from trackside.artifact_events import TextEvent
    from trackside.journal.held_files import HeldFiles


def text_record(event: TextEvent, held: HeldFiles) -> ArtifactRecord:
    """Keep the text. Raises :class:`ArtifactError` for anything else, and ``OSError``."""
    if not isinstance(event.text, str):
        raise ArtifactError(f"log_text() takes a text, not {type(event.text).__name__}")
    content = redact(event.text).encode("utf-8", "backslashreplace")
    return ArtifactRecord(
        0, event.timestamp_ms, "text", event.artifact_file, held=held.keep_bytes(content), form="file"
    )
