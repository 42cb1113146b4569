"""Log a thing once: a training loop meets the same fault at every step.

Invariants:

* No lock. Keys are added in one step that no other thread can divide, and a forked child never waits for a
  lock that was held when it was made.
* A forked child starts with what its parent has logged, so a job's data-loading workers do not repeat it.
* Keys made on the fly do not pile up: a full collection calls no further key new.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Hashable


class Once:
    """The keys met so far, at most ``limit``."""

    __slots__ = ("_keys", "_limit")

    def __init__(self, limit: int = 1000) -> None:
        self._keys: dict[Hashable, object] = {}
        self._limit = limit

    def is_first(self, key: Hashable) -> bool:
        """Whether ``key`` is new. One thread gets True for it, once."""
        keys = self._keys
        if key in keys or len(keys) >= self._limit:
            return False
        mine = object()
        return keys.setdefault(key, mine) is mine

    @property
    def is_full(self) -> bool:
        """Whether no further key is called new."""
        return len(self._keys) >= self._limit

    def __contains__(self, key: Hashable) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)
