"""How many files of a run are delivered to one destination, and how many wait. Pure."""

from __future__ import annotations

import msgspec


class FileCounts(msgspec.Struct, frozen=True):
    """Artifact records by what became of them. A picture, a table's rows and a folder are one each."""

    delivered: int = 0
    replaced: int = 0
    """Not delivered, because a newer one of the same place came before their turn."""
    rejected: int = 0
    """Not delivered for good. They are in the dead-letter file, with the reason."""
    waiting: int = 0
    bytes_waiting: int = 0
    bytes_settled: int = 0
    first_waiting: int = 0
    """The number of the first record that waits for its turn, or 0. Those of the run's end don't count."""
    takes: bool = False
    """Whether the destination takes files at all."""

    @property
    def settled(self) -> int:
        """How many no longer wait."""
        return self.delivered + self.replaced + self.rejected

    @property
    def is_done(self) -> bool:
        """Whether nothing waits, nor was put off."""
        return not self.waiting and not self.first_waiting

    def has(self, seq: int) -> bool:
        """Whether nothing up to record ``seq`` waits for its turn."""
        return not 0 < self.first_waiting <= seq
