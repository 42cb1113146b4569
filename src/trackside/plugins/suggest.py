"""What to say when somebody mistypes a name that has to be one of a few. Pure."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["unknown_name"]


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """A message that ``name`` is no ``what``, with the nearest of the ``known`` names, and all of them.

    >>> unknown_name("key of transform", "inclde", ["include", "exclude"])
    "unknown key of transform 'inclde'; did you mean 'include'? Known: exclude, include"
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {what} {name!r}{hint} Known: {', '.join(names)}"
