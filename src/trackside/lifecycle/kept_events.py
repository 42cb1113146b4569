"""Which lifecycle events are kept: enough to judge a run's end, however many there are. Pure.

A program may lose a thread at every step, and each loss is an event with a traceback. The verdict
(:mod:`trackside.lifecycle.verdict`) needs the first crash, the first request to stop, and the last end. So of
those of one kind and meaning, :data:`LIMIT` are kept: the first ones or, of ends, the last ones.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from trackside.lifecycle.evidence import CRASHES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.lifecycle.evidence import Happening

    Kept = TypeVar("Kept", bound=Happening)

LIMIT = 3

_FIRST_COUNTS = {*CRASHES, "terminating", "started"}


def matters(known: Sequence[Happening], new: Happening) -> bool:
    """Whether ``new`` tells something that ``known`` does not."""
    return len(_alike(known, new)) < LIMIT or new.kind not in _FIRST_COUNTS


def keep(known: Sequence[Kept], new: Kept) -> list[Kept]:
    """``known`` and ``new``, without what does not matter."""
    if not matters(known, new):
        return list(known)
    alike = _alike(known, new)
    dropped = alike[0] if len(alike) == LIMIT else None
    return [*(one for one in known if one is not dropped), new]


def _alike(known: Sequence[Kept], new: Happening) -> list[Kept]:
    return [one for one in known if one.kind == new.kind and one.status == new.status]
