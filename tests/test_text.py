"""Numbers and names as people read them."""

from __future__ import annotations

import math

import pytest

from trackside.text import format_duration, plain_value, shorten


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


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("-7", -7), ("0.1", 0.1), ("1e-05", 1e-05), ("inf", math.inf), ("True", True), ("x", "x")],
)
def test_a_text_that_is_a_number(text: str, value: object) -> None:
    """It has the value and the type that it was made of."""
    found = plain_value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["", "01", "1e-3", "1_000", " 1", "true", "None", "9" * 19, "9" * 5000, "٣"])
def test_a_text_that_only_looks_like_a_number(text: str) -> None:
    """It stays as it is: a version or an id must not change. Numbers have 64 bits."""
    assert plain_value(text) == text
