"""Anything a training loop calls a step to ``int``. Pure."""

from __future__ import annotations

import math
import operator
from typing import Any

from trackside.coerce.floats import to_float
from trackside.errors import CoercionError

__all__ = ["is_whole", "read_step"]

_LIMIT = 2**63


def read_step(step: Any) -> int | None:
    """``step`` as a signed 64-bit int; None for what has no meaning as one (``None``, text, NaN).

    None, too, for what can't be read, such as a tensor without data or an array that was donated. Floats,
    tensors and arrays are read as :func:`trackside.coerce.floats.to_float` reads them, and cut.
    """
    try:
        number = operator.index(step)
    except Exception:  # a type that is not an int's, or one whose __index__ raises whatever it likes
        try:
            value = to_float(step)
        except CoercionError:
            return None
        if not math.isfinite(value):
            return None
        number = int(value)
    return number if -_LIMIT <= number < _LIMIT else None


def is_whole(step: Any) -> bool:
    """Whether a step that :func:`read_step` reads is an int already, or a number without a fraction."""
    try:
        operator.index(step)
    except Exception:
        return to_float(step).is_integer()
    return True
