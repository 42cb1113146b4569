"""What the shipper reports of itself: ``state.json``, replaced whole, by any of its threads."""

from __future__ import annotations

import logging
import os
import threading
import time
from typing import TYPE_CHECKING, Any

from trackside.events import now_ms
from trackside.journal import lossless_json
from trackside.journal.files import read_json, write_even_when_full
from trackside.journal.meta import State
from trackside.journal.version import require_known, stamped
from trackside.redaction.redact import redact
from trackside.text import printable

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory

logger = logging.getLogger("trackside.journal")

MAX_NOTICES = 50


class Progress:
    """The state, kept on disk. A restarted shipper continues from what its predecessor left.

    Nothing here raises because of the disk: delivering matters more than reporting it.
    """

    def __init__(self, journal: JournalDirectory) -> None:
        self.journal = journal
        self._lock = threading.Lock()
        self._failing = False
        self._published = 0.0
        require_known(journal.state)
        found = read_json(journal.state, State)
        self.restarted = found is not None
        """Whether an earlier shipper has worked on this journal."""
        self.state = found or State(pid=os.getpid())
        self.update(pid=os.getpid(), phase="starting", error=None)

    def update(self, **changes: Any) -> None:
        """Change fields of the state and publish it."""
        with self._lock:
            for name, value in changes.items():
                setattr(self.state, name, _presentable(value))
            self._publish()

    def notice(self, text: str) -> None:
        """Tell the user once. The trainer logs it when it next looks."""
        text = _presentable(text)
        with self._lock:
            if text not in self.state.notices and len(self.state.notices) < MAX_NOTICES:
                self.state.notices.append(text)
                self._publish()

    def touch(self) -> None:
        """Give a sign of life, for processes that can't look this one up."""
        with self._lock:
            self._publish()

    @property
    def silent_for(self) -> float:
        """Seconds since the last sign of life, whatever the time of day has become since."""
        return time.monotonic() - self._published

    def _publish(self) -> None:
        self.state.updated_ms, self._published = now_ms(), time.monotonic()
        try:
            write_even_when_full(self.journal.state, stamped(lossless_json.encode(self.state)))
            self._failing = False
        except OSError as error:  # the next change is published, and this one with it
            level = logging.DEBUG if self._failing else logging.WARNING
            self._failing = True
            logger.log(level, "the state could not be published: %s", error)


def _presentable(value: Any) -> Any:
    """A text without secrets and escapes, and without lone surrogates, which an odd file's name may hold."""
    return printable(redact(value)) if isinstance(value, str) else value
