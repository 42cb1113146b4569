"""What a tracking store is told of a dataset that a run uses. Pure."""

from __future__ import annotations

import msgspec

CONTEXT_TAG = "mlflow.data.context"


class UsedDataset(msgspec.Struct, frozen=True):
    """A dataset as ``mlflow.entities.Dataset`` has it, with what it is used for."""

    name: str
    digest: str
    """Tells two datasets of one name apart. Up to 36 characters."""
    source_type: str
    source: str
    """JSON."""
    schema: str | None = None
    profile: str | None = None
    context: str | None = None
