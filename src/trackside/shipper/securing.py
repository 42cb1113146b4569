"""Makes claims independent of their originals, on a thread of its own: a copy may take minutes.

One for each journal, however many destinations its artifacts go to.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING

from trackside.journal.claims import COPY
from trackside.journal.securing import secure

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import ArtifactRecord, HeldFile

logger = logging.getLogger("trackside.shipper")


class Securer:
    """Secures the held files of ``journal``, in the order they come. Any thread may call it."""

    def __init__(self, journal: JournalDirectory) -> None:
        self._journal = journal
        self._lock = threading.Lock()
        self._waiting: deque[HeldFile] = deque()
        self._outcomes: dict[str, bool | None] = {}
        self._is_running = False

    def add(self, record: ArtifactRecord) -> None:
        """Secure the file of ``record`` soon."""
        held = record.held
        if held is None or held.way == COPY:
            return
        with self._lock:
            if held.name in self._outcomes:
                return
            self._outcomes[held.name] = None
            self._waiting.append(held)
            if self._is_running:
                return
            self._is_running = True
        try:
            threading.Thread(target=self._run, name="trackside-securing", daemon=True).start()
        except RuntimeError:  # no thread for now: here, then
            self._run()

    def is_secured(self, held: HeldFile) -> bool | None:
        """Whether nothing a program does can change it. None while that is not known yet."""
        return True if held.way == COPY else self._outcomes.get(held.name, False)

    def _run(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._is_running = False
                    return
                held = self._waiting.popleft()
            self._outcomes[held.name] = self._secure(held)

    def _secure(self, held: HeldFile) -> bool:
        try:
            return secure(self._journal, held)
        except Exception as error:  # whoever delivers it meets the same, and tells
            logger.warning("a claim stays what it is: %s", error)
            return False


_securers: dict[str, Securer] = {}


def securer_of(journal: JournalDirectory) -> Securer:
    """The one for ``journal``, in this process."""
    return _securers.setdefault(str(journal.path), Securer(journal))
