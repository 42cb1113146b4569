"""An artifact repository that takes files and keeps none."""

from __future__ import annotations

from typing import Any

from mlflow.store.artifact.artifact_repo import ArtifactRepository


class NullArtifacts(ArtifactRepository):
    """The repository for ``trackside+null:``."""

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Nothing."""

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Nothing."""

    def list_artifacts(self, path: str | None = None) -> list[Any]:  # noqa: ARG002 - MLflow's signature
        """Empty."""
        return []

    def _download_file(self, remote_file_path: str, local_path: str) -> None:  # noqa: ARG002 - MLflow's signature
        raise FileNotFoundError(f"{remote_file_path}: files of a run that is not logged are not kept")
