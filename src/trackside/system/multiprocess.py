"""Was this process started by :mod:`multiprocessing`? Asked without importing it."""

from __future__ import annotations

import sys


def parent_number() -> int | None:
    """The number of the process that started this one through ``multiprocessing``, or None if none did.

    With a fork server it is not the process that made this one.
    """
    ask = getattr(sys.modules.get("multiprocessing.process"), "parent_process", None)
    parent = None if ask is None else ask()
    return None if parent is None else int(parent.pid)
