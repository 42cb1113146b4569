"""Turn any kind of step into an ``int``. Pure."""

from __future__ import annotations

import math
import operator
from typing import Any

from trackside.coerce.floats import to_float
from trackside.errors import CoercionError

STEP_LIMIT = 2**63
"""A step is at least ``-STEP_LIMIT``, and less than this."""


def read_step(step: Any) -> int | None:
    """Return ``step`` as a signed 64-bit int, or None if it has no meaning as one (``None``, text, NaN).

    A step that cannot be read, such as a tensor without data or an array that was donated, is None, too.
    Floats, tensors and arrays are read with :func:`trackside.coerce.floats.to_float`, and cut.
    """
    try:
        number = operator.index(step)
    except Exception:  # not an int, or its __index__ raises
        try:
            value = to_float(step)
        except CoercionError:
            return None
        if not math.isfinite(value):
            return None
        number = int(value)
    return number if -STEP_LIMIT <= number < STEP_LIMIT else None


def is_whole(step: Any) -> bool:
    """Whether a step that :func:`read_step` reads is an int already, or a number without a fraction."""
    try:
        operator.index(step)
    except Exception:
        return to_float(step).is_integer()
    return True
