"""The way out of a child of :mod:`multiprocessing`, which passes neither ``atexit`` nor ``sys.excepthook``.

A forked child leaves by ``os._exit``. If it raises, multiprocessing catches the exception, whatever
the start method. But before that it runs its own finalizers, in a ``finally`` clause, where
:func:`sys.exc_info` shows the exception.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_LIBRARIES = ("multiprocessing", "multiprocess")
"""The standard library's, and its copy that pickles with dill."""

_LAST = -1000
"""The priority of a finalizer that runs after those of the user and of the library itself."""


def at_child_exit(function: Callable[[], None]) -> Callable[[], None]:
    """Call ``function`` as this process ends, if it is such a child. Returns a function that undoes this."""
    for name in _LIBRARIES:
        library = sys.modules.get(name)
        if library is not None and library.parent_process() is not None:
            cancel: Callable[[], None] = library.util.Finalize(None, function, exitpriority=_LAST).cancel
            return cancel
    return _nothing


def _nothing() -> None:
    """Take back nothing."""
