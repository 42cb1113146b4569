"""What the shipper says of itself: ``state.json``, replaced whole, from any of its threads."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import msgspec

from trackside.journal.directory import JournalDirectory, read_json, write_atomically
from trackside.journal.meta import State

MAX_NOTICES = 50


class Progress:
    """The state, kept on disk. A restarted shipper goes on from what its predecessor left."""

    def __init__(self, journal: JournalDirectory) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self.state = read_json(journal.state, State) or State(pid=os.getpid())
        self.update(pid=os.getpid(), phase="starting", error=None)

    def update(self, **changes: Any) -> None:
        """Change fields of the state and publish it."""
        with self._lock:
            for name, value in changes.items():
                setattr(self.state, name, value)
            self._publish()

    def notice(self, text: str) -> None:
        """Tell the user once; the trainer logs it when it next looks."""
        with self._lock:
            if text not in self.state.notices and len(self.state.notices) < MAX_NOTICES:
                self.state.notices.append(text)
                self._publish()

    def touch(self) -> None:
        """Give a sign of life, for those who can't look the process up."""
        with self._lock:
            self._publish()

    def _publish(self) -> None:
        self.state.updated_ms = time.time_ns() // 1_000_000
        write_atomically(self._journal.state, msgspec.json.encode(self.state))
