"""Uploading artifacts on a thread of their own, so that a slow artifact store delays no metric."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from trackside.errors import DeliveryError, RejectedError
from trackside.journal.opening import UnfitFileError
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.journal.outbox import Outbox

logger = logging.getLogger("trackside.destinations")

LONGEST_PAUSE = 300.0
NOTICE_AFTER = 3
"""Failed tries in a row after which the user is told."""

RETRY_AT_END = 1.0


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
        tell: Callable[[str | None], None] = lambda _error: None,
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
