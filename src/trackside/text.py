"""Text that every encoder takes, and numbers as people read them. Pure."""

from __future__ import annotations

_UNITS = (("d", 86400), ("h", 3600), ("m", 60), ("s", 1))


def encodable(text: str) -> str:
    """``text`` with lone surrogates spelt out, as a file name or a traceback may hold them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def format_duration(seconds: float) -> str:
    """``90`` as ``1m 30s``: whole seconds, in the two largest units."""
    parts: list[str] = []
    rest = max(0, int(seconds))
    for name, size in _UNITS:
        if rest >= size or (name == "s" and not parts):
            parts.append(f"{rest // size}{name}")
            rest %= size
    return " ".join(parts[:2])


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` characters, its middle left out: names differ at their ends."""
    if len(text) <= width:
        return text
    tail = width // 2
    return f"{text[: width - tail - 1]}…{text[len(text) - tail :]}"
