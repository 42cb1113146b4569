"""What a user logged, in a form that every JSON reader takes: a dead letter is for other programs, too."""

from __future__ import annotations

import math
from typing import Any

from trackside.text import encodable

_MIN, _MAX = -(2**63), 2**64 - 1
"""What the decoder reads back as a whole number."""

DEEPEST = 100
"""Levels of nesting that are kept. A text stands for what lies deeper."""


def plain(value: Any, depth: int = 0) -> Any:
    """A copy of ``value`` that every JSON encoder takes: numbers without a word in JSON as text."""
    if isinstance(value, (dict, list, tuple)):
        return "..." if depth >= DEEPEST else _plain_container(value, depth + 1)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if _MIN <= value <= _MAX else hex(value)
    if isinstance(value, float) and math.isfinite(value):
        return value
    return encodable(value if isinstance(value, str) else repr(value))


def _plain_container(value: Any, depth: int) -> Any:
    if isinstance(value, dict):
        return {encodable(str(key)): plain(item, depth) for key, item in value.items()}
    return [plain(item, depth) for item in value]
