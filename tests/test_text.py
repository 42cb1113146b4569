"""Numbers and names as people read them."""

from __future__ import annotations

import pytest

from trackside.text import format_duration, shorten


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1, "0s"),
        (0, "0s"),
        (59.9, "59s"),
        (60, "1m"),
        (90, "1m 30s"),
        (3600, "1h"),
        (3661, "1h 1m"),
        (90000, "1d 1h"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """The two largest units, in every command alike."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("text", "width", "short"),
    [("abcdef", 6, "abcdef"), ("abcdefg", 6, "ab…efg"), ("abcdefg", 5, "ab…fg"), ("abcdefg", 1, "…")],
)
def test_a_long_name_loses_its_middle(text: str, width: int, short: str) -> None:
    """What tells two names apart is at their ends."""
    assert shorten(text, width) == short
    assert len(short) <= width
