"""Uploading artifacts, on a thread of their own: an artifact store that hangs or fails holds up no metric."""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from trackside.errors import DeliveryError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.journal.outbox import Outbox

logger = logging.getLogger(__name__)

LONGEST_PAUSE = 300.0
NOTICE_AFTER = 3
"""Failed tries in a row after which the user is told."""

RETRY_AT_END = 1.0


class Uploader:
    """Sends what waits in ``outbox`` through ``upload``, for ever until it works.

    ``upload`` raises :class:`~trackside.errors.DeliveryError` when it fails; ``notice`` tells the user.
    All methods are called by one thread.
    """

    def __init__(self, outbox: Outbox, upload: Callable[[Path], None], notice: Callable[[str], None]) -> None:
        self._outbox = outbox
        self._upload = upload
        self._notice = notice
        self._failures = 0
        self._due = 0.0
        self._thread: threading.Thread | None = None

    def kick(self) -> None:
        """Start uploading what waits, unless that is going on or a pause after a failure is."""
        busy = self._thread is not None and self._thread.is_alive()
        if busy or time.monotonic() < self._due or not self._outbox.pending():
            return
        self._thread = threading.Thread(target=self._run, name="trackside-upload", daemon=True)
        self._thread.start()

    def finish(self, timeout: float) -> bool:
        """Try for ``timeout`` seconds to get everything up; whether it is."""
        deadline = time.monotonic() + timeout
        self._due = 0.0
        while self._outbox.pending() and time.monotonic() < deadline:
            self.kick()
            if self._thread is not None:
                self._thread.join(max(0.0, deadline - time.monotonic()))
            if self._outbox.pending():
                time.sleep(min(RETRY_AT_END, max(0.0, deadline - time.monotonic())))
                self._due = 0.0
        return not self._outbox.pending()

    def _run(self) -> None:
        for path in self._outbox.pending():
            try:
                before = path.read_bytes()
                self._upload(path)
                if path.read_bytes() == before:  # otherwise a newer one took its place meanwhile
                    self._outbox.sent(path)
            except (DeliveryError, OSError) as error:
                self._note_failure(path, error)
                return
            self._failures = 0

    def _note_failure(self, path: Path, error: Exception) -> None:
        self._failures += 1
        self._due = time.monotonic() + min(LONGEST_PAUSE, 2.0**self._failures)
        logger.warning("artifact %s: %s", path.name, error)
        if self._failures == NOTICE_AFTER:
            self._notice(f"artifact {path.name} could not be uploaded so far: {error}")
