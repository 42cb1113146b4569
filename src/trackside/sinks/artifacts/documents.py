"""Nested data, masked as configurations are. The shipper makes JSON or YAML of it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trackside.artifact_names import artifact_file
from trackside.encoding.documents import DOCUMENT
from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.params import plain_data
from trackside.redaction.redact import redact_config

if TYPE_CHECKING:
    from trackside.artifact_events import DocumentEvent
    from trackside.journal.held_files import HeldFiles

MAX_ELEMENTS = 65_536
"""Of an array that is written out. A larger one is shown by its shape."""

_encode = msgspec.msgpack.Encoder().encode


def document_record(event: DocumentEvent, held: HeldFiles) -> ArtifactRecord:
    """Keep the document. Raises :class:`ArtifactError` for what is no nested data, and ``OSError``."""
    name = artifact_file(event.artifact_file)
    plain = plain_data(event.document, max_elements=MAX_ELEMENTS)
    if not isinstance(plain, (dict, list)):
        kind = type(event.document).__name__
        raise ArtifactError(f"log_dict() takes a mapping, a list or an object with fields, not {kind}")
    content = _encode(redact_config(plain))
    return ArtifactRecord(
        0, event.timestamp_ms, "document", name, held=held.keep_bytes(content), form=DOCUMENT
    )
