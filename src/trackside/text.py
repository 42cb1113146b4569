"""Text that every encoder takes. Pure."""

from __future__ import annotations


def encodable(text: str) -> str:
    """``text`` with lone surrogates spelt out, as a file name or a traceback may hold them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
