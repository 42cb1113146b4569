"""What a destination has put off: rows of a table that are uploaded now and then.

Invariant: from the moment a destination may have put something off until it says that nothing is left,
:attr:`RestOfArtifacts.since` names the first record that it may be of.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from trackside.protocols import Destination

if TYPE_CHECKING:
    from collections.abc import Callable


class RestOfArtifacts:
    """Calls ``write_postponed`` of ``destination``, in the thread that calls ``write_artifact``.

    ``is_known``: whether nothing can be left from an earlier shipper.
    """

    def __init__(self, destination: Destination, *, is_known: bool) -> None:
        self._write: Callable[..., float | None] = destination.write_postponed
        self._puts_off = type(destination).write_postponed is not Destination.write_postponed
        self._everything = False
        self._ended = False
        self._due = math.inf
        self.since = 0
        """The number of the first record that may be put off. 0 if none is."""
        if self._puts_off and not is_known:
            self.note(1)

    @property
    def is_done(self) -> bool:
        """Whether nothing is left."""
        return not self.since

    def note(self, seq: int) -> None:
        """The destination was given record ``seq``, and may have put it off."""
        if self._puts_off:
            self.since = self.since or seq
            self._due = 0.0

    def hurry(self) -> None:
        """Put nothing off that was given until now."""
        if self.since:
            self._everything, self._due = True, 0.0

    def end(self) -> None:
        """Put nothing off from now on."""
        self._ended = True
        self.hurry()

    def is_due(self, now: float) -> bool:
        """Whether :meth:`deliver` is due."""
        return bool(self.since) and self._due <= now

    def wait(self, now: float) -> float:
        """Seconds until it is due."""
        return max(0.0, self._due - now) if self.since else math.inf

    def deliver(self, now: float) -> None:
        """Deliver what is due. Raises what the destination raises, and is then due again."""
        everything, self._everything = self._everything or self._ended, False
        try:
            wait = self._write(everything=everything)
        except BaseException:
            self._everything = self._everything or everything
            raise
        if wait is None:
            self.since, self._due = 0, math.inf
        else:
            self._due = now + wait
