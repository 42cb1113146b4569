"""The path in a sqlite address, as SQLAlchemy reads it. Since 2.1, ``%20`` in it is a space."""

from __future__ import annotations

from functools import cache
from urllib.parse import unquote


def path_in(text: str) -> str:
    """Return the path of the file that SQLAlchemy opens for ``text``, the part after ``sqlite:///``."""
    return unquote(text) if "%" in text and _is_decoded() else text


def text_for(path: str) -> str:
    """Return what to write after ``sqlite:///`` for SQLAlchemy to open ``path``."""
    return path.replace("%", "%25") if "%" in path and _is_decoded() else path


@cache
def _is_decoded() -> bool:
    from importlib.metadata import PackageNotFoundError, version  # only for the few addresses with a %

    from packaging.version import Version

    try:
        return Version(version("SQLAlchemy")).release >= (2, 1)
    except PackageNotFoundError:
        return False
