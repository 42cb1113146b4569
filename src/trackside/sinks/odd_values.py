"""Names, times and values of any type, as text and as times that the journal takes."""

from __future__ import annotations

from typing import Any

from trackside.events import now_ms
from trackside.text import encodable

MAX_REPR = 60

_TIME_LIMIT = 2**63


def encodable_text(value: Any) -> str:
    """``value`` as text that can be encoded."""
    return encodable(str.__str__(value) if isinstance(value, str) else str(value))


def milliseconds(stamp: Any) -> int:
    """``stamp`` as a time MLflow can store, or now."""
    try:
        whole = int(stamp)
    except (TypeError, ValueError, OverflowError):
        return now_ms()
    return whole if 0 <= whole < _TIME_LIMIT else now_ms()


def brief(value: Any) -> str:
    """``repr(value)``, short, on one line."""
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"of type {type(value).__name__}"
    return text if len(text) <= MAX_REPR else f"{text[: MAX_REPR - 3]}..."
