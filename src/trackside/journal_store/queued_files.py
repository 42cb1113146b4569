"""Files that the program logs through MLflow go into the journal of their run, and its reads wait for them.

MLflow's own repository of files stays as it is. Only the calls that log and read get something in front of
them, on the object, so that MLflow's own threads come here, too.

Invariants:

* Logging a file waits for no server. What can't be claimed goes MLflow's own way: it takes its time, and
  raises what it raises without us.
* A read sees every file that this process has logged before it.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from trackside.artifact_events import FileEvent, FolderEvent
from trackside.journal_store.reads import catch_up
from trackside.journal_store.runs import runs_in_use
from trackside.lifecycle.in_flight import interpreter_is_leaving
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.events import ArtifactEvent
    from trackside.journal_store.runs import Recording, Runs

logger = logging.getLogger("trackside.journal_store")

READS = ("list_artifacts", "download_artifacts", "delete_artifacts")


def queue_files(repository: Any, artifact_uri: str) -> Any:
    """``repository``, MLflow's for ``artifact_uri``, with the calls in front that are ours."""
    files = QueuedFiles(repository, artifact_uri)
    repository.log_artifact = files.log_artifact
    repository.log_artifacts = files.log_artifacts
    for name in READS:
        if hasattr(repository, name):
            setattr(repository, name, files.after_delivery(getattr(repository, name)))
    return repository


class QueuedFiles:
    """The files of the run whose artifacts are at ``artifact_uri``. For those of no run, MLflow's own way."""

    def __init__(self, repository: Any, artifact_uri: str) -> None:
        self._uri = artifact_uri
        self._log_file = repository.log_artifact
        self._log_folder = repository.log_artifacts

    def log_artifact(self, local_file: Any, artifact_path: str | None = None) -> None:
        """Claim a file, as ``ArtifactRepository.log_artifact`` would upload it."""
        if not os.path.isfile(local_file) or not self._is_kept(
            FileEvent(path=local_file, artifact_path=artifact_path)
        ):
            self._log_file(local_file, artifact_path)

    def log_artifacts(self, local_dir: Any, artifact_path: str | None = None) -> None:
        """Claim the files of a folder, as ``ArtifactRepository.log_artifacts`` would upload them."""
        if not os.path.isdir(local_dir) or not self._is_kept(
            FolderEvent(path=local_dir, artifact_path=artifact_path)
        ):
            self._log_folder(local_dir, artifact_path)

    def after_delivery(self, read: Callable[..., Any]) -> Callable[..., Any]:
        """``read``, made once all that was logged here is delivered."""

        def wait_and_read(*arguments: Any, **options: Any) -> Any:
            found = self._found()
            recording = None if found is None else found[0].known(found[1])
            if found is not None and recording is not None:
                catch_up(found[0], [recording], files=True)
            return read(*arguments, **options)

        return wait_and_read

    def _is_kept(self, event: ArtifactEvent) -> bool:
        recording = self._recording()
        if recording is None:
            return False
        reason = recording.run.keep_artifact(event)
        if reason is not None:
            logger.info("a file goes MLflow's own way, because trackside can't keep it: %s", redact(reason))
        return reason is None

    def _recording(self) -> Recording | None:
        found = self._found()
        if found is None:
            return None
        runs, run_id = found
        known = runs.known(run_id)
        if interpreter_is_leaving() and (known is None or not known.run.is_recording):
            return None
        return runs.recording(run_id)

    def _found(self) -> tuple[Runs, str] | None:
        """The run, and the table that knows it."""
        for runs in runs_in_use():
            run_id = runs.run_at(self._uri)
            if run_id is not None:
                return runs, run_id
        return None
