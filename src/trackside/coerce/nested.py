"""Flatten nested metrics: ``{"eval": {"loss": 1}}`` becomes ``{"eval/loss": 1}``. Pure.

Invariants:

* A mapping without a nested value is returned uncopied, because every sample passes here.
* Every leaf gets its own name or is reported to ``on_drop``. No leaf overwrites another. A name that the
  caller wrote whole beats one that is put together, and among the latter the first one stays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

OnDrop = Callable[[str, str], None]
"""Gets the key and the reason of each metric that was dropped."""

_MAX_DEPTH = 32
# Classes made on the fly (named tuples in functions) must not pile up.
_MAX_TYPES = 512

_leaf_types: set[type] = {float, int, bool}
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
        if not nests(type(value)):
            flat[key] = value  # one that is not text is renamed with the rest, by its reader
            continue
        for name, leaf in _leaves(key_text(key), value, on_drop):
            if name in whole or name in flat:
                on_drop(name, f"another metric is called {name!r} too. Rename one of them")
            else:
                flat[name] = leaf
    return flat


def is_nested(metrics: Mapping[Any, Any]) -> bool:
    """Whether a value of ``metrics`` holds metrics of its own."""
    values = metrics.values()
    if _leaf_types.issuperset(map(type, values)):
        return False
    return any(nests(type(value)) for value in values)


def nests(cls: type) -> bool:
    """Whether values of this type hold metrics of their own."""
    if cls in _leaf_types:
        return False
    # A number or an array is read as one, whatever else it is.
    number = any(hasattr(cls, name) for name in ("__float__", "__index__", "__array__"))
    found = issubclass(cls, Mapping) or (not number and (_is_named_tuple(cls) or is_dataclass(cls)))
    if not found:
        if len(_leaf_types) >= _MAX_TYPES:
            _leaf_types.intersection_update((float, int, bool))
        _leaf_types.add(cls)
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


def _leaves(name: str, value: Any, on_drop: OnDrop, depth: int = 1) -> Iterator[tuple[str, Any]]:
    """Yield the leaves below ``value`` with their names."""
    if not nests(type(value)):
        yield name, value
        return
    if depth > _MAX_DEPTH:
        on_drop(name, f"it is nested deeper than {_MAX_DEPTH} levels, or holds itself")
        return
    try:
        items = _items(value)
    except Exception as error:
        on_drop(name, f"its items cannot be read: {type(error).__name__}")
        return
    for key, inner in items:
        yield from _leaves(_joined(name, key_text(key)), inner, on_drop, depth + 1)


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
