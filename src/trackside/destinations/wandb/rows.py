"""What a row of W&B holds. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from trackside.journal.format import ArtifactRecord, MetricsRecord

STEP = "trainer/global_step"
"""The x axis, by the name that Lightning and transformers use too."""

RESERVED = frozenset({"_step", "_timestamp", "_runtime", "_wandb"})
"""W&B's own columns."""

THEIRS = RESERVED - {"_timestamp"}
"""Those of them that a row of the transaction log has, and that are not ours to log again."""


def row_of(record: MetricsRecord) -> dict[str, Any]:
    """What is logged for ``record``."""
    values = {_column(name): value for name, value in record.named_values().items()}
    return {**values, STEP: record.step, "_timestamp": record.timestamp_ms / 1000}


def row_of_medium(record: ArtifactRecord, medium: Any) -> dict[str, Any]:
    """The same for a picture, table or the like."""
    step = {} if record.step is None else {STEP: record.step}
    return {_column(record.place): medium, **step, "_timestamp": record.timestamp_ms / 1000}


def _column(name: str) -> str:
    return f"metrics/{name}" if name in RESERVED else name
