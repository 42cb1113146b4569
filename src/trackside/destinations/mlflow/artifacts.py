"""A run's artifacts as texts: the small files that the shipper uploads itself."""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.attempts import ATTEMPTS_FILE, upload_attempts
from trackside.journal.opening import MAX_TEXT, read_file

if TYPE_CHECKING:
    from trackside.destinations.mlflow.connection import Connection

_REPLACED = "This attempt has no traceback. Those of earlier attempts are in trackside/attempts.jsonl.\n"

_uploading = threading.Lock()


class RunArtifacts:
    """The artifacts of the run of ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def upload(self, path: Path) -> None:
        """Upload a file of the journal's outbox."""
        with _uploading:  # MLflow 3.6 uploads to the server it finds here, not to the client's
            os.environ["MLFLOW_TRACKING_URI"] = self._connection.uri
            text = read_file(path, MAX_TEXT).decode("utf-8", "replace")
            if path.name == ATTEMPTS_FILE:
                upload_attempts(text, self)
            else:
                self.write(path.name, text)

    def read(self, name: str) -> str | None:
        """The artifact ``name``, or None."""
        call, client, run_id = self._connection.call, self._connection.client, self._connection.run_id
        listed = call(client.list_artifacts, run_id, name.rpartition("/")[0] or None)
        if all(item.path != name for item in listed):
            return None
        with tempfile.TemporaryDirectory(prefix="trackside-") as place:
            path = call(client.download_artifacts, run_id, name, place)
            return Path(path).read_text("utf-8")

    def write(self, name: str, text: str) -> None:
        """Write or replace it."""
        self._connection.call(self._connection.client.log_text, self._connection.run_id, text, name)

    def remove(self, name: str) -> None:
        """Remove it. If the store does not allow that, replace it by a text that says so."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        run = self._connection.call(self._connection.client.get_run, self._connection.run_id)
        try:
            repository: Any = get_artifact_repository(run.info.artifact_uri)
            repository.delete_artifacts(name)
        except Exception:  # a store that keeps everything, or credentials that may only add
            self.write(name, _REPLACED)
