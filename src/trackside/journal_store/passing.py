"""Everything of MLflow's store that is not ours passes through unchanged, whatever MLflow's version.

A class is made for each class of MLflow's stores. It is a subclass, because MLflow asks ``isinstance`` (it
prints where to view a run of a server only). But none of the inherited code runs on our object: each
attribute is looked up on the inner store.
"""

from __future__ import annotations

from typing import Any


class _Passed:
    """An attribute of the inner store."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, store: Any, owner: type[Any]) -> Any:
        if store is None:
            return getattr(super(owner, owner), self._name)
        return getattr(store.inner, self._name)


def class_beside(ours: type[Any], stock: type[Any]) -> Any:
    """``ours`` in front of ``stock``, and what only ``stock`` has looked up on the inner store."""
    names = {name for name in dir(stock) if not name.startswith("__")}
    passed = {name: _Passed(name) for name in names if not hasattr(ours, name)}
    body = {**passed, "__getattr__": _inner_attribute, "__doc__": ours.__doc__}
    return type(f"Journal{stock.__name__}", (ours, stock), body)


def _inner_attribute(store: Any, name: str) -> Any:
    if name == "inner":  # not made yet: asking it for itself would never end
        raise AttributeError(name)
    return getattr(store.inner, name)
