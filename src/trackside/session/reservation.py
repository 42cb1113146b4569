"""A bus has one run at a time, and ``start()`` says so before it makes anything.

Invariants: of several threads that start a run on one bus, one gets it, and the others a
:class:`~trackside.errors.RunActiveError`. Nothing here waits, so that buses of their own start at the same
time. A start that fails frees its bus, and so does a fork, in the child.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from trackside.errors import RunActiveError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trackside.event_bus.bus import Bus

_starting: dict[int, object] = {}
"""The start in progress of each bus that has one, by the bus's id."""


@contextlib.contextmanager
def reserved(bus: Bus) -> Iterator[None]:
    """Keep other starts off ``bus`` for the block.

    Raises :class:`RunActiveError` if another thread is starting a run on it. The caller asks in the block
    whether the bus has a run already: a start that ends in between has its run there before it frees the bus.
    """
    mine = object()
    try:
        if _starting.setdefault(id(bus), mine) is not mine:  # atomic, as one call into C
            raise RunActiveError(
                "another thread is starting a run on this bus: let one thread start it, "
                "or give start() a bus=Bus() of its own"
            )
        yield
    finally:
        if _starting.get(id(bus)) is mine:
            del _starting[id(bus)]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_starting.clear)
