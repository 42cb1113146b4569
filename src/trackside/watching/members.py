"""A model's parameters by group of layers, found anew when they change.

Invariants:

* The model and its parameters are held weakly, so a watch keeps no memory alive.
* A shared parameter counts once, in the group of its first name. Frozen parameters are left out while they
  are frozen.
* A parameter that was replaced (a new head, sharding, moving to another device) is noticed at the next
  measurement, as long as the old one is gone.
"""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from trackside.watching.groups import TOTAL, plain_name

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class Tensors:
    """The tensors of one kind, group after group."""

    groups: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    tensors: list[Any] = field(default_factory=list)

    def add(self, group: str, tensors: list[Any]) -> None:
        """Add a group, if it has any tensors."""
        if tensors:
            self.groups.append(group)
            self.sizes.append(len(tensors))
            self.tensors.extend(tensors)

    def owners(self) -> list[str]:
        """The group of each tensor."""
        return [group for group, size in zip(self.groups, self.sizes, strict=True) for _ in range(size)]


class Members:
    """The parameters of ``model``, in the groups that ``group_of`` puts them in."""

    def __init__(self, model: Any, group_of: Callable[[str], str | None]) -> None:
        self._model = weakref.ref(model)
        self._group_of = group_of
        self._groups: list[tuple[str, list[weakref.ref[Any]]]] = []
        self._ids: frozenset[int] = frozenset()
        self.find()

    def find(self) -> None:
        """Look for the model's parameters again."""
        model = self._model()
        groups: dict[str, list[weakref.ref[Any]]] = {}
        for name, parameter in () if model is None else model.named_parameters():
            group = self._group_of(plain_name(name))
            # Without a group of its own, it still counts for the total.
            groups.setdefault("" if group is None else str(group), []).append(weakref.ref(parameter))
        self._groups = list(groups.items())
        found = (reference() for _, references in self._groups for reference in references)
        self._ids = frozenset(id(parameter) for parameter in found)

    def have_any_of(self, ids: set[int]) -> bool:
        """Whether one of the parameters has one of these ids."""
        return not self._ids.isdisjoint(ids)

    def read(self) -> tuple[Tensors, Tensors]:
        """The gradients and the parameters, without those that are frozen."""
        found = self._read()
        if found is None:
            self.find()
            found = self._read()
        return found or (Tensors(), Tensors())

    def _read(self) -> tuple[Tensors, Tensors] | None:
        """As :meth:`read`. None if a parameter is gone."""
        gradients, parameters = Tensors(), Tensors()
        for group, references in self._groups:
            found: list[Any] = [reference() for reference in references]
            if any(parameter is None for parameter in found):
                return None
            trained = [parameter for parameter in found if parameter.requires_grad]
            parameters.add(group, trained)
            grads = [parameter.grad for parameter in trained]
            gradients.add(group, [grad for grad in grads if grad is not None])
        return gradients, parameters


def metric_name(kind: str, group: str) -> str:
    """The metric of a group: ``grad_norm/model.layers.3``. A group called ``total`` is not the total."""
    return f"{kind}/{group}_" if group == TOTAL else f"{kind}/{group}"
