"""Datasets that a run uses, as ``mlflow.log_input`` logs them.

A dataset that is delivered twice is there once: MLflow knows it by its name and digest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from trackside.destinations.mlflow.used_datasets import UsedDataset
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.destinations.mlflow.artifacts.run_artifacts import ArtifactRun
    from trackside.journal.format import ArtifactRecord


def write_dataset(run: ArtifactRun, record: ArtifactRecord, content: Path | None) -> None:  # noqa: ARG001 - no file
    """Say that ``run`` uses the dataset of ``record``."""
    try:
        dataset = msgspec.convert(record.details, UsedDataset)
    except msgspec.ValidationError as error:
        raise RejectedError(f"the dataset {record.place!r} can't be read: {error}") from error
    run.connection.for_run(run.connection.client.log_dataset, dataset)
    known = run.datasets.setdefault((dataset.name, dataset.digest), dataset.context)
    if known != dataset.context:
        run.notice(
            f"MLflow keeps one context for each dataset of a run: {dataset.name!r} is shown as {known!r}, "
            f"and not as {dataset.context!r}. Log the second use under another name="
        )
