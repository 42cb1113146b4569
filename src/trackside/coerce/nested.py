"""Flatten nested metrics: ``{"eval": {"loss": 1}}`` becomes ``{"eval/loss": 1}``. Pure.

Invariants:

* A mapping without a nested value is returned uncopied, because every sample passes here.
* Every leaf gets its own name or is reported to ``on_drop``. No leaf overwrites another. A name that the
  caller wrote whole beats one that is put together, and among the latter the first one stays.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

OnDrop = Callable[[str, str], None]
"""Gets the key and the reason of each metric that was dropped."""

_MAX_DEPTH = 32
# Classes made on the fly (named tuples in functions) must not pile up.
_MAX_TYPES = 512

_leaves: set[type] = {float, int, bool}
"""Known types that hold no metrics of their own."""


def flatten_metrics(metrics: Mapping[Any, Any], on_drop: OnDrop) -> Mapping[Any, Any]:
    """Return ``metrics`` with every nested mapping, named tuple and dataclass replaced by its contents.

    Names are joined by a slash. Slashes where two parts meet count once: ``{"eval/": {"loss": 1}}`` is
    ``eval/loss`` too. A key that is not text becomes its text: ``{"acc": {0: 0.9}}`` is ``acc/0``. An empty
    mapping has nothing to log.
    """
    if not is_nested(metrics):
        return metrics
    items = [*metrics.items()]
    whole = {key_text(key) for key, value in items if not nests(type(value))}
    flat: dict[Any, Any] = {}
    for key, value in items:
        if nests(type(value)):
            _unfold(key_text(key), value, _Leaves(flat, whole, on_drop), depth=1)
        else:
            flat[key] = value  # one that is not text is renamed with the rest, by its reader
    return flat


def is_nested(metrics: Mapping[Any, Any]) -> bool:
    """Whether a value of ``metrics`` holds metrics of its own."""
    values = metrics.values()
    if _leaves.issuperset(map(type, values)):
        return False
    return any(nests(type(value)) for value in values)


def nests(cls: type) -> bool:
    """Whether values of this type hold metrics of their own."""
    if cls in _leaves:
        return False
    # A number or an array is read as one, whatever else it is.
    number = any(hasattr(cls, name) for name in ("__float__", "__index__", "__array__"))
    found = issubclass(cls, Mapping) or (not number and (_is_named_tuple(cls) or is_dataclass(cls)))
    if not found:
        if len(_leaves) >= _MAX_TYPES:
            _leaves.intersection_update((float, int, bool))
        _leaves.add(cls)
    return found


def key_text(key: object) -> str:
    """Return the name for a key of any type."""
    if isinstance(key, str):
        return str.__str__(key)  # the content of a str enum, whose own str() is "Class.MEMBER"
    try:
        return str(key)
    except Exception as error:
        cls = type(key)
        name = cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
        return f"<{name}: its __str__ raised {type(error).__name__}>"


class _Leaves:
    """The leaves found so far, each under its own name."""

    def __init__(self, flat: dict[Any, Any], whole: set[str], on_drop: OnDrop) -> None:
        self._flat = flat
        self._whole = whole
        self.drop = on_drop

    def add(self, name: str, value: Any) -> None:
        """Keep ``value``, unless another metric has its name."""
        if name in self._whole or name in self._flat:
            self.drop(name, f"another metric is called {name!r} too; rename one of them")
        else:
            self._flat[name] = value


def _unfold(name: str, value: Any, leaves: _Leaves, depth: int) -> None:
    if not nests(type(value)):
        leaves.add(name, value)
        return
    if depth > _MAX_DEPTH:
        leaves.drop(name, f"it is nested deeper than {_MAX_DEPTH} levels, or holds itself")
        return
    try:
        items = _items(value)
    except Exception as error:
        leaves.drop(name, f"its items cannot be read: {type(error).__name__}")
        return
    for key, inner in items:
        _unfold(_joined(name, key_text(key)), inner, leaves, depth + 1)


def _items(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Mapping):
        return [*value.items()]
    if isinstance(value, tuple):
        return [*zip(value._fields, value, strict=True)]  # type: ignore[attr-defined]
    return [(field.name, getattr(value, field.name)) for field in fields(value)]


def _joined(outer: str, inner: str) -> str:
    return f"{outer.rstrip('/')}/{inner.lstrip('/')}" if outer.rstrip("/") else inner


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")
