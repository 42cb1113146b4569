"""MLflow's repositories of files in a process that uses the journal store.

One of them talks to the tracking server, ``mlflow-artifacts:``, and takes only addresses of servers. It gets
the inner one. Files of a run go into its journal (:mod:`~trackside.journal_store.queued_files`). Those of
logged models, and of the model registry, go MLflow's own way.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from trackside.journal_store.queued_files import queue_files
from trackside.system.journal_address import inner_address, is_journal_address

_NAMES = {"runs", "models"}
"""Schemes of names that stand for a place elsewhere, which gets a repository of its own."""


def know_journal_addresses() -> None:
    """Have this process's repositories of files understand ``journal+...``. A second call changes nothing."""
    from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories

    repositories: Any = get_registered_artifact_repositories()
    for scheme, make in [*repositories.items()]:
        if scheme not in _NAMES and getattr(make, "func", None) is not _repository:
            repositories[scheme] = partial(_repository, make)


def _repository(
    make: Any, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """MLflow's repository, told of the inner address."""
    if tracking_uri is None:
        from mlflow.tracking import get_tracking_uri

        in_use = str(get_tracking_uri())
        tracking_uri = in_use if is_journal_address(in_use) else None
    if tracking_uri is None or not is_journal_address(tracking_uri):
        return make(artifact_uri, tracking_uri=tracking_uri, registry_uri=registry_uri)
    made = make(artifact_uri, tracking_uri=inner_address(tracking_uri), registry_uri=registry_uri)
    return queue_files(made, artifact_uri)
