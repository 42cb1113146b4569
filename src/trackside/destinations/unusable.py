"""A destination that could not even be made: it says why, and holds up no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.errors import DestinationFailedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.journal.format import ConfigRecord, MetricsRecord
    from trackside.lifecycle.verdict import Evidence, Verdict


class UnusableDestination:
    """Stands in for the destination ``name``; ``reason`` is what opening it raises."""

    batch_points = 1

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self._reason = reason

    def open(self) -> None:
        """Raise :class:`DestinationFailedError`."""
        raise DestinationFailedError(self._reason)

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Never called: it does not open."""

    def write_config(self, record: ConfigRecord) -> None:
        """Never called."""

    def idle(self) -> None:
        """Never called."""

    def settle(self, verdict: Verdict, evidence: Evidence, counts: dict[str, int]) -> None:
        """Never called."""

    def close(self) -> None:
        """Nothing is held."""
