"""Turn any nested configuration into plain data, and into the flat strings that MLflow calls params.

This module imports none of the libraries whose objects it reads, and uses neither clock nor disk. It raises
only if the top level is not a configuration. A value that cannot be read appears as text.
"""

from __future__ import annotations

import functools
import logging
import math
import os
import re
import sys
import types
from argparse import Namespace
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from typing import Any

from trackside.errors import CoercionError
from trackside.redaction.redact import redact_config
from trackside.text import encodable

__all__ = [
    "flatten_params",
    "plain_data",
    "to_plain",
]

logger = logging.getLogger("trackside")

# Deeper than any real configuration, and shallow enough that str() of the result does not hit the recursion
# limit, even deep in a program's stack.
_MAX_DEPTH = 50
# Shared substructures multiply when written out. This many nodes take some tens of megabytes.
_MAX_NODES = 200_000
# Arrays up to this many elements are shown whole.
_MAX_ELEMENTS = 64
_ADDRESS = re.compile(r" at 0x[0-9A-Fa-f]+")


def to_plain(config: object) -> dict[str, Any]:
    """Return ``config`` as nested dicts with string keys, lists, and None, bool, int, float and str.

    At every level it accepts mappings, dataclasses, ``argparse.Namespace``, ``SimpleNamespace``, pydantic,
    attrs and msgspec objects, OmegaConf configs, and anything with ``to_yaml_dict()`` or ``to_dict()``.
    OmegaConf's interpolations are resolved. A missing value is ``"???"``, and a broken interpolation is its
    own text. Other values become text without memory addresses, and sets are sorted, so the same
    configuration gives the same text in the next process.

    Raises:
        CoercionError: the top level is of another kind.
    """
    plain = _Converter(list)(config)
    if isinstance(plain, dict):
        return plain
    raise CoercionError(
        f"a config must be a mapping, dataclass, Namespace, pydantic or OmegaConf object, "
        f"not {_type_name(config)}. For an object of your own, pass vars(it)"
    )


def plain_data(value: object, *, max_elements: int = _MAX_ELEMENTS) -> Any:
    """Return any value as plain data, as :func:`to_plain` does, with arrays of ``max_elements`` whole."""
    return _Converter(list, max_elements)(value)


def flatten_params(config: object, max_depth: int | None = 1, mask: bool = True) -> dict[str, str]:
    """Return ``config`` (see :func:`to_plain`) as strings under dotted keys.

    ``max_depth`` levels of nesting get keys of their own, and deeper values are stringified. 0 stringifies
    the values of the top level, 1 gives ``model.text_config: "{'hidden': True}"``, and None gives every leaf
    its key. Lists, tuples and empty dicts are always stringified. If two values get the same key, the later
    one's key gets ``-2``, ``-3``, ... With ``mask``, secrets are ``***`` (see
    :func:`trackside.redaction.redact.redact_config`), also inside stringified values.

    Raises:
        CoercionError: the top level is not a configuration.
    """
    plain = _Converter(tuple)(config)
    if not isinstance(plain, dict):
        plain = to_plain(config)  # raises, with the message for the user
    flat: dict[str, str] = {}
    _flatten(redact_config(plain) if mask else plain, max_depth, "", flat)
    return flat


def _flatten(nested: dict[str, Any], levels: int | None, prefix: str, flat: dict[str, str]) -> None:
    below = None if levels is None else levels - 1
    for key, value in nested.items():
        name = f"{prefix}.{key}" if prefix else key
        if value and isinstance(value, dict) and (levels is None or levels > 0):
            _flatten(value, below, name, flat)
        else:
            flat[_unused(name, flat)] = str(value)


def _unused(name: str, taken: Mapping[str, Any]) -> str:
    candidate, number = name, 1
    while candidate in taken:
        number += 1
        candidate = f"{name}-{number}"
    return candidate


class _Converter:
    """One conversion. It knows which objects it is inside of, and how much it has written."""

    def __init__(self, make_tuple: Callable[[Iterable[Any]], Any], max_elements: int = _MAX_ELEMENTS) -> None:
        self._make_tuple = make_tuple
        self._max_elements = max_elements
        self._inside: set[int] = set()
        self._nodes = 0

    def __call__(self, value: Any) -> Any:  # noqa: PLR0911 - one line a kind of value
        self._nodes += 1
        if value is None or type(value) in (bool, float):
            return value
        if type(value) in (str, int):
            return _scalar(value)
        if id(value) in self._inside:
            return f"<cycle: {_type_name(value)}>"
        if len(self._inside) >= _MAX_DEPTH:
            return f"<nested deeper than {_MAX_DEPTH} levels: {_type_name(value)}>"
        if self._nodes > _MAX_NODES:
            return "<configuration too large>"
        self._inside.add(id(value))
        try:
            return self._convert(value)
        except Exception as error:
            # A config object whose own code fails must not stop a run from starting.
            logger.debug("%s shown as text", _type_name(value), exc_info=error)
            return _text(value)
        finally:
            self._inside.discard(id(value))

    def _convert(self, value: Any) -> Any:  # noqa: PLR0911 - one line a kind of value
        if isinstance(value, (str, int, float, Enum)):
            return _scalar(value)
        if isinstance(value, tuple):
            return self._make_tuple(map(self, value))
        if isinstance(value, (list, deque)):
            return [self(item) for item in value]
        if isinstance(value, (set, frozenset)):
            return sorted(map(self, value), key=_order)
        if isinstance(value, functools.partial):
            return self._partial(value)
        if hasattr(type(value), "tolist") and hasattr(type(value), "shape"):
            return self(_array(value, self._max_elements))
        opened = _open(value)
        if opened is value:
            return _text(value)
        return self._mapping(opened) if isinstance(opened, Mapping) else self(opened)

    def _mapping(self, mapping: Mapping[Any, Any]) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, value in list(mapping.items()):
            result[_unused(str(_scalar(key)), result)] = self(value)
        return result

    def _partial(self, value: functools.partial[Any]) -> str:
        shown = [_text(value.func), *(repr(self(item)) for item in value.args)]
        shown += [f"{name}={self(item)!r}" for name, item in value.keywords.items()]
        return f"partial({', '.join(shown)})"


def _order(item: Any) -> tuple[str, Any]:
    return type(item).__name__, item if isinstance(item, (int, float, str)) else str(item)


def _open(value: Any) -> Any:
    """Return what ``value`` holds, by the first way to open it that works, or ``value`` itself.

    A way that raises is skipped: ``to_dict`` of a half-built object may fail while its fields can be read.
    """
    for applies, open_it in _WAYS:
        if applies(value):
            try:
                return open_it(value)
            except Exception as error:
                logger.debug("cannot open %s this way", _type_name(value), exc_info=error)
    return value


def _is_omegaconf(value: Any) -> bool:
    omegaconf = getattr(sys.modules.get("omegaconf"), "OmegaConf", None)
    return omegaconf is not None and bool(omegaconf.is_config(value))


def _open_omegaconf(value: Any) -> Any:
    omegaconf = sys.modules["omegaconf"].OmegaConf
    try:
        return omegaconf.to_container(value, resolve=True)
    except Exception:
        # One broken interpolation fails the whole: take the children one by one.
        raw = omegaconf.to_container(value, resolve=False)
    if isinstance(raw, dict):
        return {key: _omegaconf_child(value, key, text) for key, text in raw.items()}
    if isinstance(raw, list):
        return [_omegaconf_child(value, index, text) for index, text in enumerate(raw)]
    return raw


def _omegaconf_child(config: Any, key: Any, raw: Any) -> Any:
    try:
        return config[key]
    except Exception:
        return raw  # "???", or the text of the interpolation


def _open_to_yaml_dict(value: Any) -> Any:
    try:
        return value.to_yaml_dict(use_orig_values=True)  # as NeMo's ConfigNode takes it
    except TypeError:
        return value.to_yaml_dict()


def _holds_data(value: Any) -> bool:
    """Whether ``value`` is a table. Those have ``to_dict()`` too, but hold no configuration."""
    return hasattr(type(value), "__array__") or hasattr(type(value), "to_pandas")


def _has(name: str) -> Callable[[Any], bool]:
    return lambda value: hasattr(type(value), name)


def _fields(value: Any, names: Iterable[str]) -> dict[str, Any]:
    """Return the fields that are set. Those left out of ``__init__`` may not be."""
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


_WAYS: tuple[tuple[Callable[[Any], bool], Callable[[Any], Any]], ...] = (
    (_is_omegaconf, _open_omegaconf),
    (lambda it: isinstance(it, Mapping), lambda it: dict(it.items())),
    (_has("to_yaml_dict"), _open_to_yaml_dict),
    (_has("model_dump"), lambda it: it.model_dump(warnings=False)),
    # Iterating a pydantic model gives its fields, where a serialiser of its own fails.
    (_has("model_dump"), lambda it: dict(iter(it))),
    (_has("parse_obj"), lambda it: it.dict()),
    (lambda it: _has("to_dict")(it) and not _holds_data(it), lambda it: it.to_dict()),
    (_has("__dataclass_fields__"), lambda it: _fields(it, it.__dataclass_fields__)),
    (_has("__attrs_attrs__"), lambda it: _fields(it, [a.name for a in it.__attrs_attrs__])),
    (_has("__struct_fields__"), lambda it: _fields(it, it.__struct_fields__)),
    (lambda it: isinstance(it, (Namespace, types.SimpleNamespace)), vars),
)
"""Which objects can be opened, and how. The way that shows most comes first."""


def _array(value: Any, max_elements: int) -> Any:
    """Return a small array as lists and numbers, and any other as its shape. Never reads an accelerator."""
    device = getattr(value, "device", "cpu")
    on_cpu = getattr(device, "type", device) == "cpu"
    if on_cpu and math.prod(value.shape) <= max_elements:
        listed = value.tolist()
        if type(listed) is not type(value):  # a longdouble gives itself
            return listed
        return str(value)
    dtype = getattr(value, "dtype", "unknown")
    return f"{_type_name(value)}(shape={tuple(value.shape)}, dtype={dtype})"


def _scalar(value: Any) -> Any:
    """A scalar of a plain type: whatever its subclass does with ``str``, it means its content."""
    if isinstance(value, str):
        return encodable(str.__str__(value))
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}" if value.name else _text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, float):
        return float(value)
    if isinstance(value, int):
        return _plain_int(int(value))
    return _text(value)


def _plain_int(value: int) -> int | str:
    """``value``, or its text where MessagePack's 64 bits do not hold it."""
    if -(2**63) <= value < 2**64:
        return value
    try:
        return str(value)
    except ValueError:  # more digits than sys.get_int_max_str_digits() allows
        return hex(value)


def _text(value: Any) -> str:
    """Readable text of any object, the same in every process."""
    try:
        if isinstance(value, os.PathLike):
            return encodable(os.fsdecode(value))
        name = getattr(value, "__qualname__", None)
        if isinstance(name, str):  # a class or a function
            module = getattr(value, "__module__", None)
            return name if module in (None, "builtins") else f"{module}.{name}"
        text = repr(value) if isinstance(value, (bytes, bytearray)) else str(value)
        return encodable(_ADDRESS.sub("", text))
    except Exception as error:
        return f"<{_type_name(value)}: its text raised {type(error).__name__}>"


def _type_name(value: object) -> str:
    cls = type(value)
    return cls.__name__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
