"""One value of a table as plain data: what MessagePack and JSON hold."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

from trackside.params import plain_data
from trackside.sinks.artifacts.pillow import is_pillow
from trackside.text import encodable

MAX_ELEMENTS = 65_536
"""Of an array in a cell that is written out. A larger one is shown by its shape."""

_AS_IT_IS = frozenset({type(None), bool, float})
_MISSING = frozenset({"NAType", "NaTType"})  # pandas.NA and pandas.NaT
_INT64 = 2**63
_LARGEST = 8
"""Bytes of a number."""


def plain_cell(value: Any) -> Any:
    """``value`` as None, bool, int, float, text, or lists and dicts of them.

    Times are in ISO 8601. ``NaT`` and ``pandas.NA`` are None. A tensor on an accelerator is waited for.
    Images stay as they are.
    """
    kind = type(value)
    if kind in _AS_IT_IS or (kind is int and -_INT64 <= value < _INT64):
        return value
    if kind is str:
        return value if value.isascii() else encodable(value)
    if hasattr(kind, "tolist") and hasattr(kind, "shape"):
        return _array(value)
    return value if is_picture(value) else _other(value)


def is_picture(value: Any) -> bool:
    """Whether ``value`` is an image of Pillow or an ``mlflow.Image``. Such a cell stays as it is here."""
    return is_pillow(value) or hasattr(type(value), "to_pil")


def _other(value: Any) -> Any:
    if isinstance(value, (dt.date, dt.time)):
        return _time(value)
    if isinstance(value, Decimal):
        return float(value)
    if type(value).__name__ in _MISSING:
        return None
    if isinstance(value, (list, tuple)) and not hasattr(value, "_asdict"):
        return _list(value)
    return plain_data(value, max_elements=MAX_ELEMENTS)


def plain_column(values: Any) -> list[Any]:
    """The cells of a column: a list, a tuple, an array of one dimension or more, a Series."""
    if _holds_numbers(values):
        plain: list[Any] = values.tolist()
        return plain
    # Of times in nanoseconds, numpy's tolist() would give bare numbers.
    listed = values.tolist() if hasattr(values, "tolist") and not _holds_times(values) else values
    return [plain_cell(value) for value in listed]


def _holds_numbers(values: Any) -> bool:
    """Whether ``values`` is an array or Series of one dimension, of numbers that MessagePack holds."""
    dtype: Any = getattr(values, "dtype", None)
    if not type(dtype).__module__.startswith("numpy"):
        return False
    return dtype.kind in {"b", "f", "i"} and dtype.itemsize <= _LARGEST and len(values.shape) == 1


def _holds_times(value: Any) -> bool:
    return getattr(getattr(value, "dtype", None), "kind", "") in {"m", "M"}


def _time(value: dt.date | dt.time) -> str | None:
    return value.isoformat() if value == value else None  # noqa: PLR0124 - NaT differs from itself


def _array(value: Any) -> Any:
    if math.prod(value.shape) > MAX_ELEMENTS:
        return plain_data(value)
    if _holds_times(value):
        return plain_column(value) if value.shape else _time_of_numpy(value)
    try:
        listed = value.tolist()
    except Exception:  # a tensor that is sparse or has no data
        return plain_data(value)
    if type(listed) is type(value):  # a longdouble gives itself
        return float(listed)
    return plain_cell(listed)


def _time_of_numpy(value: Any) -> str | None:
    text = str(value)
    return None if text == "NaT" else text


def _list(value: list[Any] | tuple[Any, ...]) -> Any:
    """A list of scalars value by value, which keeps times readable. Deeper ones as any nested data."""
    if any(isinstance(item, (list, tuple, dict)) for item in value):
        return plain_data(value, max_elements=MAX_ELEMENTS)
    return [plain_cell(item) for item in value]
