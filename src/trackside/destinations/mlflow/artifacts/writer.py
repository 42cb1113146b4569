"""Which function writes the artifacts of a kind, and which one closes what it has begun."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.destinations.mlflow.artifacts.datasets import write_dataset
from trackside.destinations.mlflow.artifacts.files import write_file, write_folder
from trackside.destinations.mlflow.artifacts.images import write_keyed_file, write_picture
from trackside.destinations.mlflow.artifacts.models import give_up_model, write_model
from trackside.destinations.mlflow.artifacts.tables import write_table
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.destinations.mlflow.artifacts.run_artifacts import ArtifactRun
    from trackside.journal.format import ArtifactRecord

_WRITERS: dict[str, Callable[[ArtifactRun, ArtifactRecord, Path | None], None]] = {
    "file": write_file,
    "folder": write_folder,
    "text": write_file,
    "image": write_picture,
    "figure": write_picture,
    "histogram": write_picture,
    "audio": write_keyed_file,
    "video": write_keyed_file,
    "document": write_file,
    "table": write_table,
    "checkpoint": write_model,
    "model": write_model,
    "dataset": write_dataset,
}
"""By the kind of the record. A file of another kind is uploaded as it is, if it is ready."""


def write_artifact(run: ArtifactRun, record: ArtifactRecord, content: Path | None) -> None:
    """Write ``record`` to ``run``. Raises :class:`RejectedError` for a kind that is not known."""
    writer = _WRITERS.get(record.kind)
    if writer is None and content is not None and record.form == "file":
        writer = write_folder if content.is_dir() else write_file
    if writer is None:
        raise RejectedError(f"this version of trackside can't deliver a {record.kind!r} to MLflow")
    try:
        writer(run, record, content)
    finally:
        run.clear()


def give_up_artifact(run: ArtifactRun, record: ArtifactRecord) -> None:
    """Close what :func:`write_artifact` has begun for ``record``, which is not delivered."""
    if record.held is not None:
        run.take_back(record.held.name)
    if _WRITERS.get(record.kind) is write_model:
        give_up_model(run, record)
