"""Points of a run, by what became of them."""

from __future__ import annotations

from typing import NamedTuple


class Counts(NamedTuple):
    """How many points (name, value, step, time) of a run reached their destinations, and how many did not."""

    shipped: int = 0
    """Acknowledged by every destination."""
    rejected: int = 0
    """Rejected for good by a destination, and kept in the dead-letter file."""
    dropped: int = 0
    """Never kept: the journal had no room, or the value is not a number."""
