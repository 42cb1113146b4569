"""What MLflow's entry points name: makers of the stores for ``trackside+null:``."""

from __future__ import annotations

from typing import Any


def tracking_store(store_uri: str, artifact_uri: str | None = None) -> Any:  # noqa: ARG001 - MLflow's signature
    """The tracking store."""
    from trackside.null_store.tracking import NullTracking

    return NullTracking()


def model_registry_store(store_uri: str, tracking_uri: str | None = None) -> Any:  # noqa: ARG001
    """The model registry."""
    from trackside.null_store.tracking import NullRegistry

    return NullRegistry()


def artifact_repository(artifact_uri: str, *_: Any, **__: Any) -> Any:
    """The artifact repository."""
    from trackside.null_store.tracking import NullArtifacts

    return NullArtifacts(artifact_uri)
