"""Whether a held file is still being written to: a checkpoint may be logged while a thread still saves it.

A file is settled when no process has it open for writing. Where the system can't tell, or a program leaves
the file open, as logging does, it is settled when it has not changed for a while.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from trackside.journal.claims import COPY
from trackside.journal.held_content import files_under, fingerprint
from trackside.journal.releasing import FILES
from trackside.system.clock import steady
from trackside.system.writers import has_writer

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import HeldFile

QUIET = 2.0
"""Seconds without a change, where the system can't tell whether a file is open."""

QUIET_OPEN = 10.0
"""Seconds without a change, for a file that is open for writing."""

LONGEST = 600.0
"""Seconds after which a file that goes on changing is delivered as it is then."""


class Settling:
    """Looks at the file or folder of ``held`` from time to time, until nothing writes to it any more.

    ``gave_up``: whether it still changes, and is delivered as it is.
    """

    def __init__(
        self, journal: JournalDirectory, held: HeldFile, *, clock: Callable[[], float] = steady
    ) -> None:
        self._journal = journal
        self._held = held
        self._clock = clock
        self._first = self._since = clock()
        self._last = (held.size, held.changed_ns)
        self.gave_up: bool = False

    def is_settled(self, *, ended: bool = False) -> bool:
        """Look once. ``ended``: the training has ended, so that an open file is not waited for as long.

        Raises ``OSError``.
        """
        if self._held.way == COPY:
            return True
        now = self._clock()
        state = fingerprint(self._journal, self._held)
        is_same, self._last = state == self._last, state
        if not is_same:
            self._since = now
        is_open = self._is_open()
        if is_open is False and (is_same or not self._held.writing):
            return True
        if is_same and now - self._since >= (QUIET_OPEN if is_open and not ended else QUIET):
            return True
        self.gave_up = now - self._first >= LONGEST
        return self.gave_up

    def _is_open(self) -> bool | None:
        answers = [_has_writer(path) for path in files_under(self._journal.path / FILES / self._held.name)]
        if True in answers:
            return True
        return None if None in answers else False


def _has_writer(path: Path) -> bool | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return has_writer(descriptor)
    finally:
        os.close(descriptor)
