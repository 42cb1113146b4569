"""Files of a run whose tracking address is ``journal+...``: MLflow's own repositories take them.

One of them talks to the tracking server, ``mlflow-artifacts:``, and takes only addresses of servers. In a
process that uses the journal store it gets the inner one.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from trackside.system.journal_address import inner_address, is_journal_address

SCHEME = "mlflow-artifacts"


def know_journal_addresses() -> None:
    """Have this process's repositories of files understand ``journal+...``. A second call changes nothing."""
    from mlflow.store.artifact.artifact_repository_registry import get_registered_artifact_repositories

    repositories: Any = get_registered_artifact_repositories()
    ours = repositories.get(SCHEME)
    if ours is not None and getattr(ours, "func", None) is not _repository:
        repositories[SCHEME] = partial(_repository, ours)


def _repository(
    make: Any, artifact_uri: str, tracking_uri: str | None = None, registry_uri: str | None = None
) -> Any:
    """MLflow's repository, told of the inner address."""
    if tracking_uri is None:
        from mlflow.tracking import get_tracking_uri

        in_use = str(get_tracking_uri())
        tracking_uri = in_use if is_journal_address(in_use) else None
    address = None if tracking_uri is None else inner_address(tracking_uri)
    return make(artifact_uri, tracking_uri=address, registry_uri=registry_uri)
