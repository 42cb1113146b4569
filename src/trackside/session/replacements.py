"""Whether a shipper that died is replaced at once, or only after a rest.

Invariants:

* A cause that would kill the next shipper, too, starts no storm of processes: after :data:`MAX_RESTARTS`
  that died young and in vain, or :data:`MAX_TRIES` that never were ready, there is a rest.
* A cause that passes ends nothing for good: a neighbour that took all the memory, a server that was away
  while shippers were killed. After :data:`REST` seconds one more shipper is tried. If it is of use, all is as
  before. If not, the next rest begins.
"""

from __future__ import annotations

from trackside.system.clock import steady

MAX_RESTARTS = 20
"""Shippers in a row that died young and delivered nothing. The same cause would kill the next, too."""

MAX_TRIES = 3
"""Shippers in a row that ended before they were ready."""

REST = 300.0
"""Seconds without a shipper, after too many of them."""


class Replacements:
    """Counts the shippers that were of no use."""

    __slots__ = ("_in_vain", "_rest_began", "tries")

    def __init__(self) -> None:
        self.tries = 0
        """How many in a row have ended before they were ready."""
        self._in_vain = 0
        self._rest_began = 0.0

    def after_silence(self) -> bool:
        """Whether to replace one that ended before it was ready."""
        self.tries += 1
        return self.tries < MAX_TRIES

    def after_death(self, *, of_use: bool) -> bool:
        """Whether to replace one that was ready."""
        self.tries = 0
        if of_use:  # in weeks of training some die, each for its own reason
            self._in_vain = 0
        if self._in_vain >= MAX_RESTARTS:
            return False
        self._in_vain += 1
        return True

    def rest(self) -> None:
        """Begin a rest."""
        self._rest_began = steady()

    def end_rest(self) -> bool:
        """Whether the rest is over. Then one more shipper is to be started."""
        if steady() - self._rest_began < REST:
            return False
        self.tries = min(self.tries, MAX_TRIES - 1)
        return True
