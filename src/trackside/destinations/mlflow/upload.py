"""Uploading artifacts on a thread of their own, so that a slow artifact store delays no metric."""

from __future__ import annotations

import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.attempts import ATTEMPTS_FILE, TRACEBACK
from trackside.errors import DeliveryError, RejectedError
from trackside.journal.opening import MAX_TEXT, UnfitFileError, read_file
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.destinations.mlflow.connection import Connection
    from trackside.destinations.mlflow.tracking import Run, TrackingClient
    from trackside.journal.outbox import Outbox

logger = logging.getLogger("trackside.destinations")

LONGEST_PAUSE = 300.0
NOTICE_AFTER = 3
"""Failed tries in a row after which the user is told."""

RETRY_AT_END = 1.0

ATTEMPTS_ARTIFACT = f"trackside/{ATTEMPTS_FILE}"
_REPLACED = "This attempt has no traceback. Those of earlier attempts are in trackside/attempts.jsonl.\n"


class Uploader:
    """Sends the files in ``outbox`` through ``upload``, each until it succeeds or is rejected.

    ``upload`` raises :class:`~trackside.errors.DeliveryError` when it fails. ``notice`` tells the user.
    ``tell`` gets the reason for each failure, and None when uploads work again. For one caller.
    """

    def __init__(
        self,
        outbox: Outbox,
        upload: Callable[[Path], None],
        notice: Callable[[str], None],
        *,
        tell: Callable[[str | None], object] = lambda _error: None,
    ) -> None:
        self._outbox = outbox
        self._upload = upload
        self._notice = notice
        self._tell = tell
        self._failures = 0
        self._due = 0.0
        self._thread: threading.Thread | None = None
        self._tried_to_finish = False
        self.error: str | None = None
        """What the last try failed with."""

    def kick(self) -> None:
        """Start uploading what waits, unless an upload is running or paused after a failure."""
        busy = self._thread is not None and self._thread.is_alive()
        if busy or time.monotonic() < self._due or not self._outbox.pending():
            return
        self._thread = threading.Thread(target=self._run, name="trackside-upload", daemon=True)
        self._thread.start()

    def finish(self, timeout: float) -> bool:
        """Try to upload everything for ``timeout`` seconds, later once a call. True if it is done."""
        deadline = time.monotonic() + timeout
        self._due = 0.0
        once, self._tried_to_finish = self._tried_to_finish, True
        while self._outbox.pending() and time.monotonic() < deadline:
            self.kick()
            if self._thread is not None:
                self._thread.join(max(0.0, deadline - time.monotonic()))
            if once:
                break
            if self._outbox.pending():
                time.sleep(min(RETRY_AT_END, max(0.0, deadline - time.monotonic())))
                self._due = 0.0
        return not self._outbox.pending()

    def _run(self) -> None:
        for path in self._outbox.pending():
            try:
                self._send(path)
            except Exception as error:  # whatever it is: an error that ended the thread would end all uploads
                if not isinstance(error, (DeliveryError, OSError)):
                    logger.exception("artifact %s", path.name)
                self._note_failure(path, error)
                return
        self._note_success()

    def _send(self, path: Path) -> None:
        try:
            before = self._outbox.read(path)
            self._upload(path)
        except (RejectedError, UnfitFileError) as error:
            kept = self._outbox.refuse(path)
            self._notice(f"artifact {path.name} was rejected, and is kept as {kept}: {error}")
            return
        if self._outbox.read(path) == before:  # otherwise a newer one took its place meanwhile
            self._outbox.sent(path)

    def _note_failure(self, path: Path, error: Exception) -> None:
        self._failures += 1
        self._due = time.monotonic() + min(LONGEST_PAUSE, 2.0**self._failures)
        logger.warning("artifact %s: %s", path.name, error)
        self.error = redact(str(error) or type(error).__name__)
        self._tell(self.error)
        if self._failures == NOTICE_AFTER:
            self._notice(f"artifact {path.name} could not be uploaded so far, and is tried again: {error}")

    def _note_success(self) -> None:
        if self.error is not None:
            self.error = None
            self._tell(None)
        if self._failures >= NOTICE_AFTER:
            self._notice("the artifacts that waited are uploaded")
        self._failures = 0


class RunArtifacts:
    """The artifacts of the run of ``connection``."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._found: Run | None = None

    def upload(self, path: Path) -> None:
        """Upload a file of the journal's outbox."""
        text = read_file(path, MAX_TEXT).decode("utf-8", "replace")
        if path.name == ATTEMPTS_FILE:
            upload_attempts(text, self)
        else:
            self.write(path.name, text)

    def read(self, name: str) -> str | None:
        """The artifact ``name``, or None."""
        text: str | None = self._connection.call(self._client.read_artifact, self._run(), name)
        return text

    def write(self, name: str, text: str) -> None:
        """Write or replace it."""
        self._connection.call(self._client.write_artifact, self._run(), name, text)

    def remove(self, name: str) -> None:
        """Remove it. If the store does not allow that, replace it by a text that says so."""
        run = self._run()
        try:
            self._client.remove_artifact(run, name)
        except Exception:  # a store that keeps everything, or credentials that may only add
            self.write(name, _REPLACED)

    @property
    def _client(self) -> TrackingClient:
        return self._connection.client

    def _run(self) -> Run:
        """The run, which says where its artifacts are. That never changes."""
        if self._found is None:
            self._found = self._connection.get_run()
        return self._found


def upload_attempts(line: str, artifacts: RunArtifacts) -> None:
    """Add ``line`` and the traceback of that attempt to the run's attempts, then remove the traceback."""
    known = artifacts.read(ATTEMPTS_ARTIFACT) or ""
    entry = json.loads(line)
    traceback = artifacts.read(TRACEBACK)
    if all(entry["journal"] != _journal_in(other) for other in known.splitlines()):
        if traceback:
            entry["traceback"] = traceback
        artifacts.write(ATTEMPTS_ARTIFACT, known + json.dumps(entry) + "\n")
    if traceback is not None:
        artifacts.remove(TRACEBACK)


def _journal_in(line: str) -> Any:
    """The journal that ``line`` is about. None for a line that trackside did not write."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found.get("journal") if isinstance(found, dict) else None
