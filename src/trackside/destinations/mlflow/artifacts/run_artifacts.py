"""The artifacts of one run in MLflow, as the writer of each kind sees them.

All of it is used by one thread: the one that delivers files (:mod:`trackside.shipper.artifacts`).
"""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trackside.journal.files import make_private_directory

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trackside.destinations.mlflow.artifacts.tables import Tables
    from trackside.destinations.mlflow.begun_uploads import BegunUploads
    from trackside.destinations.mlflow.connection import Connection
    from trackside.destinations.mlflow.tracking import Run

TAGS_SECONDS = 10.0
"""How long what the server said of the run's tags is believed. What this process sets is known anyway."""


class ArtifactRun:
    """The run of ``connection``. What has to be made before it is uploaded is made in ``folder``.

    Every call raises a :class:`~trackside.errors.DeliveryError` and nothing else. ``on_sent`` gets the bytes
    that went out for the current record, as they go.
    """

    def __init__(
        self,
        connection: Connection,
        folder: Path,
        *,
        tables: Tables,
        uploads: BegunUploads,
        notice: Callable[[str], None],
        on_sent: Callable[[int], None] = lambda _bytes: None,
    ) -> None:
        self.connection = connection
        self.tables = tables
        self._uploads = uploads
        self.notice = notice
        self.datasets: dict[tuple[str, str], str | None] = {}
        """The contexts of the datasets that were delivered, by name and digest."""
        self._folder = folder
        self._on_sent = on_sent
        self._run: Run | None = None
        self._tags: dict[str, str] = {}
        self._tags_due = 0.0
        self._set: dict[str, str] = {}

    @property
    def folder(self) -> Path:
        """A private folder in the journal, empty at the beginning of each record."""
        make_private_directory(self._folder)
        return self._folder

    def clear(self) -> None:
        """Remove what was made for the last record."""
        shutil.rmtree(self._folder, ignore_errors=True)

    @property
    def run(self) -> Run:
        """The run, as it was at first. Where its artifacts are never changes."""
        if self._run is None:
            self._run = self.connection.get_run()
        return self._run

    def upload(self, source: Path, artifact_file: str, *, to: Run | None = None) -> None:
        """Write or replace the artifact ``artifact_file`` by the file ``source``.

        ``to``: where else than in the run's own artifacts.
        """
        self.connection.call(
            self.connection.client.upload_file,
            to or self.run,
            source,
            artifact_file,
            on_sent=self._on_sent,
            uploads=self._uploads,
        )

    def take_back(self, name: str) -> None:
        """Have the store forget what was begun of the held file ``name``, which is not delivered."""
        for begun in self._uploads.all():
            if begun.is_below(name):
                self.connection.call(self.connection.client.take_back, begun, self._uploads)

    def upload_folder(self, source: Path, artifact_path: str, *, to: Run | None = None) -> None:
        """Write or replace all files under ``source``, in the folder ``artifact_path`` of the run."""
        for root, folders, names in os.walk(source):
            folders.sort()
            for name in sorted(names):
                path = Path(root, name)
                relative = path.relative_to(source).as_posix()
                self.upload(path, f"{artifact_path}/{relative}" if artifact_path else relative, to=to)

    def tags(self) -> Mapping[str, str]:
        """The run's tags, as of a few seconds ago, with those that were set here."""
        if time.monotonic() >= self._tags_due:
            self._tags = dict(self.connection.get_run().data.tags)
            self._tags_due = time.monotonic() + TAGS_SECONDS
        return {**self._tags, **self._set}

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag. Nothing is sent if this process has set it to ``value`` before."""
        if self._set.get(key) != value:
            self.connection.for_run(self.connection.client.set_tag, key, value)
            self._set[key] = value
