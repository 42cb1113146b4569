"""A function of a module, replaced by one of ours that calls the one before it.

Invariants:

* The function that was there before still runs, after ours. Ours calls :attr:`Replaced.previous`.
* :meth:`Replaced.restore` puts the previous function back if ours is still on top. If a later run of ours
  has replaced it, that run is made to call our predecessor instead of us. If other code has replaced it,
  nothing is changed: that code keeps calling ours, which by then only passes the call on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType


class Replaced:
    """``module.name``, to be replaced by ``ours``."""

    _in_place: ClassVar[list[Replaced]] = []

    def __init__(self, module: ModuleType, name: str, ours: Callable[..., Any]) -> None:
        self._module = module
        self._name = name
        self._ours = ours
        self.previous: Any = getattr(module, name)

    def replace(self) -> None:
        """Put ours in place, on top of the current one. A second call changes nothing."""
        if self in Replaced._in_place:
            return
        self.previous = getattr(self._module, self._name)
        setattr(self._module, self._name, self._ours)
        Replaced._in_place.append(self)

    def restore(self) -> None:
        """Take ours out again. Without :meth:`replace` before, change nothing."""
        if self not in Replaced._in_place:
            return
        Replaced._in_place.remove(self)
        if getattr(self._module, self._name) == self._ours:
            setattr(self._module, self._name, self.previous)
            return
        for other in Replaced._in_place:
            if other.previous == self._ours:
                other.previous = self.previous
