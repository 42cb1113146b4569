"""The error for a framework that is not installed."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextlib.contextmanager
def needs_extra(extra: str) -> Iterator[None]:
    """Turn an ``ImportError`` of the block into one that says what to install."""
    try:
        yield
    except ImportError as error:
        raise ImportError(
            f"trackside.integrations.{extra} needs a package ({error}): pip install 'trackside[{extra}]'",
            name=error.name,
            path=error.path,
        ) from error
