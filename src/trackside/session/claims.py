"""What only one thread does, without a lock that a signal handler could meet half-way."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Claims:
    """Things to do once, whichever thread gets there first."""

    def __init__(self) -> None:
        self._takers: dict[Hashable, object] = {}

    def take(self, what: Hashable) -> bool:
        """Whether the caller is the first to ask for ``what``, and so the one to do it."""
        caller = object()
        return self._takers.setdefault(what, caller) is caller  # one operation of the interpreter
