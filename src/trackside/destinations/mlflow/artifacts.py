"""A run's artifacts as texts, read, written and removed; for small files that the shipper itself keeps."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_REPLACED = "This attempt has no traceback. Those of earlier attempts are in trackside/attempts.jsonl.\n"


class RunArtifacts:
    """The artifacts of ``run_id``. ``call`` calls a function, and translates what it raises.

    ``repository(artifact_uri)`` is MLflow's artifact repository of a place: the client can't remove a file.
    """

    def __init__(
        self, client: Any, run_id: str, *, call: Callable[..., Any], repository: Callable[[str], Any]
    ) -> None:
        self._client = client
        self._run_id = run_id
        self._call = call
        self._repository = repository

    def read(self, name: str) -> str | None:
        """The artifact ``name``; None without one."""
        folder = name.rpartition("/")[0] or None
        listed = self._call(self._client.list_artifacts, self._run_id, folder)
        if all(item.path != name for item in listed):
            return None
        with tempfile.TemporaryDirectory(prefix="trackside-") as place:
            path = self._call(self._client.download_artifacts, self._run_id, name, place)
            return Path(path).read_text("utf-8")

    def write(self, name: str, text: str) -> None:
        """Write or replace it."""
        self._call(self._client.log_text, self._run_id, text, name)

    def remove(self, name: str) -> None:
        """Remove it. Where the store does not let us, say in it that it is out of date."""
        uri = self._call(self._client.get_run, self._run_id).info.artifact_uri
        try:
            self._repository(uri).delete_artifacts(name)
        except Exception:  # a store that keeps everything, or credentials that may only add
            self.write(name, _REPLACED)
