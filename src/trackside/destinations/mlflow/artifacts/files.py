"""Files and folders, uploaded as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.encoding.finished import finished
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.destinations.mlflow.artifacts.run_artifacts import ArtifactRun
    from trackside.journal.format import ArtifactRecord


def write_file(run: ArtifactRun, record: ArtifactRecord, content: Path | None) -> None:
    """Upload the file of ``record`` to its place."""
    if content is None:
        raise RejectedError(f"there is no file for {record.place!r}")
    run.upload(finished(record, content, run.folder), record.place)


def write_folder(run: ArtifactRun, record: ArtifactRecord, content: Path | None) -> None:
    """Upload all files of a folder below its place."""
    if content is None:
        raise RejectedError(f"there is no folder for {record.place!r}")
    run.upload_folder(content, record.place)
