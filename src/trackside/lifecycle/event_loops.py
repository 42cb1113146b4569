"""Event loops that take over signal handlers: notice it, so that the hooks can go back on top.

``loop.add_signal_handler(SIGTERM, stop)`` replaces both the signal's handler and the wakeup descriptor, and
chains to neither. ``loop.remove_signal_handler`` and the end of the loop set the default action. Python
offers no way to be told, so both methods are wrapped on the loop classes while there are hooks. The
callbacks that the loop calls are left as they are.

asyncio's loop is always covered, uvloop's if uvloop was imported before. Trio and Twisted are not covered,
since they have no such method.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_METHODS = ("add_signal_handler", "remove_signal_handler")

_wrapped: list[tuple[type, str, Any, Any]] = []
"""Class, method's name, the class's own method, and our wrapper."""


def watch_event_loops(changed: Callable[[int], None]) -> None:
    """Have ``changed(number)`` called whenever a loop takes or gives up a signal. Idempotent."""
    if _wrapped:
        return
    for loop in _loop_classes():
        for name in _METHODS:
            own = vars(loop).get(name)  # None: inherited, and to be hidden only
            wrapper = _wrap(getattr(loop, name), changed)
            setattr(loop, name, wrapper)
            _wrapped.append((loop, name, own, wrapper))


def leave_event_loops() -> None:
    """Undo :func:`watch_event_loops`, unless other code has wrapped the method since."""
    for loop, name, own, wrapper in _wrapped:
        if vars(loop).get(name) is not wrapper:
            continue
        if own is None:
            delattr(loop, name)
        else:
            setattr(loop, name, own)
    _wrapped.clear()


def _loop_classes() -> list[type]:
    import asyncio

    uvloop = sys.modules.get("uvloop")
    return [
        found for found in (asyncio.SelectorEventLoop, getattr(uvloop, "Loop", None)) if found is not None
    ]


def _wrap(original: Any, changed: Callable[[int], None]) -> Any:
    @functools.wraps(original)
    def wrapper(loop: Any, sig: Any, *arguments: Any, **options: Any) -> Any:
        result = original(loop, sig, *arguments, **options)
        with contextlib.suppress(Exception):  # the loop has done its part
            changed(int(sig))
        return result

    return wrapper
