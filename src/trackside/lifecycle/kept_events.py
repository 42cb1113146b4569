"""Which lifecycle events are kept: enough to judge a run's end, however many there are. Pure.

A program may lose a thread at every step, and each loss is an event with a traceback. The verdict
(:mod:`trackside.lifecycle.verdict`) asks for the first crash, the first request to stop, and the last end.
So of those of one kind and meaning, :data:`LIMIT` are kept: the first, or of ends the last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from trackside.lifecycle.verdict import CRASHES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.lifecycle.verdict import Happening

    Kept = TypeVar("Kept", bound=Happening)

__all__ = ["LIMIT", "keep"]

LIMIT = 3

_FIRST_COUNTS = {*CRASHES, "terminating", "started"}


def keep(known: Sequence[Kept], new: Kept) -> list[Kept] | None:
    """``known`` with ``new``; None if ``new`` tells nothing that matters."""
    alike = [one for one in known if one.kind == new.kind and one.status == new.status]
    if len(alike) < LIMIT:
        return [*known, new]
    if new.kind in _FIRST_COUNTS:
        return None
    return [*(one for one in known if one is not alike[0]), new]
