"""A dataset that the run uses: what is said of it, masked. Its contents are not kept."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.redaction.redact import redact
from trackside.sinks.artifacts.dataset_kinds import Description, describe

if TYPE_CHECKING:
    from trackside.artifact_events import DatasetEvent
    from trackside.journal.held_files import HeldFiles

MAX_NAME = 500
"""Characters. This and the next two are from ``mlflow/utils/validation.py``."""

MAX_CONTEXT = 500
MAX_SOURCE = 65_535

MAX_TEXT = 1_000_000
"""Of a schema or a profile. A longer one is left out, because it only describes."""


def dataset_record(event: DatasetEvent, held: HeldFiles) -> ArtifactRecord:  # noqa: ARG001 - no file is held
    """Keep what is said of the dataset. Raises :class:`ArtifactError` for what can't be described."""
    found = describe(event.dataset)
    details = {
        name: redact(text) if name != "digest" else text
        for name, text in _fitting(found, event.name)._asdict().items()
        if text is not None
    }
    if event.context is not None:
        details["context"] = redact(str(event.context))[:MAX_CONTEXT]
    return ArtifactRecord(0, event.timestamp_ms, "dataset", details["name"], details=details)


def _fitting(found: Description, name: str | None) -> Description:
    if len(found.source) > MAX_SOURCE:
        raise ArtifactError(
            f"the source of the dataset takes {len(found.source)} characters, and MLflow keeps {MAX_SOURCE}. "
            "Pass the folder or the address of its files"
        )
    return found._replace(
        name=(found.name if name is None else str(name))[:MAX_NAME] or "dataset",
        schema=_short(found.schema),
        profile=_short(found.profile),
    )


def _short(text: str | None) -> str | None:
    return None if text is None or len(text) > MAX_TEXT else text
