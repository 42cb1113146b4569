"""What the user is told of a destination that fails for a while, and when it works again.

Invariant: a destination that fails for :data:`TELL_AFTER` seconds is told of once, with the reason, and once
more when it works again. The texts carry the time, because a notice with the same text is given only once.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

TELL_AFTER = 20.0
"""Seconds: shorter troubles are everyday life, and a minute is what the user should have to wait at most."""

MOST_TOLD = 10
"""Troubles of one destination that are told. A server that comes and goes must not fill the log."""


@dataclass
class Trouble:
    """The troubles of ``name``, a destination or the shipper itself. ``notice`` tells the user.

    ``fails``, ``then`` and ``mended`` are the words for it.
    """

    name: str
    notice: Callable[[str], None]
    clock: Callable[[], float] = time.monotonic
    fails: str = "has taken nothing"
    then: str = "Everything is kept, and is tried again"
    mended: str = "What was kept is being delivered"
    _since: float | None = None
    _told: bool = False
    _count: int = 0

    def note(self, failing: str | None, *, quietly: bool = False) -> None:
        """``failing`` is what it fails with now, or None. ``quietly``: the user was told elsewhere."""
        now = self.clock()
        if failing is None:
            self._end()
        elif self._since is None:
            self._since = now
        elif not self._told and now - self._since >= TELL_AFTER and self._count < MOST_TOLD:
            self._told = True
            self._count += 1
            if quietly:
                return
            self.notice(
                f"{self.name} {self.fails} for {now - self._since:.0f} s, as of {_time_of_day()} "
                f"({failing}). {self.then}"
            )

    def _end(self) -> None:
        if self._told:
            self.notice(f"{self.name} works again, as of {_time_of_day()}. {self.mended}")
        self._since, self._told = None, False


def _time_of_day() -> str:
    return time.strftime("%H:%M:%S")
