"""Text that every encoder takes, and numbers as people read them. Pure."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_LAST_MS = 253_402_300_799_000
"""The end of the year 9999."""

_INT64 = 2**63

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))

_SIZES = ("bytes", "kB", "MB", "GB", "TB")
_STEP = 1000
"""Bytes are counted in the units of disks: 1 kB is 1000 bytes."""


def encodable(text: str) -> str:
    """``text`` with lone surrogates spelt out, as a file name or a traceback may hold them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def printable(text: str) -> str:
    """``text`` with every character that a terminal would act on spelt out, but for line ends and tabs.

    Names and messages come from servers, from other processes and from folders. An escape sequence in one
    could clear the screen, forge a line, or set the clipboard. A direction mark could reorder what you read.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() or c in "\n\t" else _spelt(c) for c in text)


def one_line(text: str) -> str:
    """:func:`printable` without line ends and tabs, for a name or a message within a line."""
    return text if text.isprintable() else "".join(c if c.isprintable() else _spelt(c) for c in text)


def plain_value(text: str) -> bool | int | float | str:
    """The truth value, float or whole number of 64 bits whose text this is, exactly, or ``text`` itself."""
    if text in ("True", "False"):
        return text == "True"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:  # int() also raises it for too many digits
            continue
        if -_INT64 <= value < _INT64 or kind is float:
            return value if str(value) == text else text
    return text


def _spelt(character: str) -> str:
    return character.encode("unicode_escape", "backslashreplace").decode("ascii")


def utc(at_ms: float) -> datetime:
    """The moment ``at_ms`` after the epoch. A number that no calendar holds is clipped."""
    return _EPOCH + timedelta(milliseconds=min(max(at_ms, 0), _LAST_MS))


def iso_seconds(at_ms: float) -> str:
    """The moment ``at_ms`` after the epoch as ``2026-01-02T03:04:05Z``."""
    return f"{utc(at_ms):%Y-%m-%dT%H:%M:%SZ}"


def format_duration(seconds: float) -> str:
    """``90`` as ``1m 30s``: whole seconds, in the two largest units."""
    parts: list[str] = []
    rest = max(0, int(seconds))
    for name, size in _UNITS:
        if rest >= size or (name == "s" and not parts):
            parts.append(f"{rest // size}{name}")
            rest %= size
    return " ".join(parts[:2])


def size_text(size: float) -> str:
    """Bytes for a person: ``512 bytes``, ``1.5 MB``, ``20 GB``."""
    for unit in _SIZES[:-1]:
        if size < _STEP:
            return f"{size:.3g} {unit}"
        size /= _STEP
    return f"{size:,.0f} {_SIZES[-1]}"


def files_text(count: int) -> str:
    """How many files: ``1 file``, ``1,000 files``."""
    return f"{count:,} file{'' if count == 1 else 's'}"


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, its middle left out: names differ at their ends."""
    if len(text) <= width:
        return text
    tail = width // 2
    return f"{text[: width - tail - 1]}…{text[len(text) - tail :]}"
