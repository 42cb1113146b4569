"""A destination that could not be created. It says why, and holds up no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.errors import DestinationFailedError
from trackside.protocols import Destination

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.journal.format import MetricsRecord


class UnusableDestination(Destination):
    """Stands in for the destination ``name``. ``open`` raises :class:`DestinationFailedError`."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self._reason = reason

    def open(self) -> None:
        """Raise ``reason``."""
        raise DestinationFailedError(self._reason)

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Never called, because it does not open."""
