"""Event loops that take over signal handlers: notice it, so that the hooks can go back on top.

``loop.add_signal_handler(SIGTERM, stop)`` replaces both the signal's handler and the wakeup descriptor, and
chains to neither. ``loop.remove_signal_handler`` and the end of the loop set the default action. Python
offers no way to be told, so both methods are wrapped on the loop classes while there are hooks. The
callbacks that the loop calls are left as they are.

asyncio's loop and uvloop's are covered, also if they are imported later. asyncio itself is not imported for
it: that takes a third of what :func:`trackside.start` takes in a program without it. Trio and Twisted are
not covered, since they have no such method.
"""

from __future__ import annotations

import contextlib
import functools
import sys
from typing import TYPE_CHECKING, Any

from trackside.system.after_import import after_import

if TYPE_CHECKING:
    from collections.abc import Callable

_METHODS = ("add_signal_handler", "remove_signal_handler")

_LOOPS = {"asyncio": "SelectorEventLoop", "uvloop": "Loop"}
"""Modules, and their class of a loop that has the methods."""

_wrapped: list[tuple[type, str, Any, Any]] = []
"""Class, method's name, the class's own method, and our wrapper."""

_changed: Callable[[int], None] | None = None
"""Who is to be told. None while there are no hooks."""

_awaited: set[str] = set()
"""Modules whose import is waited for, or was."""


def watch_event_loops(changed: Callable[[int], None]) -> None:
    """Have ``changed(number)`` called whenever a loop takes or gives up a signal. Idempotent."""
    global _changed  # noqa: PLW0603 - one for the process, as the loop classes are
    if _changed is not None:
        return
    _changed = changed
    for module in _LOOPS:
        if module in sys.modules or module not in _awaited:
            _awaited.add(module)
            after_import(module, functools.partial(_wrap_loop, module))


def leave_event_loops() -> None:
    """Undo :func:`watch_event_loops`, unless other code has wrapped the method since."""
    global _changed  # noqa: PLW0603
    _changed = None
    for loop, name, own, wrapper in _wrapped:
        if vars(loop).get(name) is not wrapper:
            continue
        if own is None:
            delattr(loop, name)
        else:
            setattr(loop, name, own)
    _wrapped.clear()


def _wrap_loop(module: str) -> None:
    loop = getattr(sys.modules.get(module), _LOOPS[module], None)
    if _changed is None or loop is None:
        return
    for name in _METHODS:
        own = vars(loop).get(name)  # None: inherited, and to be hidden only
        wrapper = _wrap(getattr(loop, name), _changed)
        setattr(loop, name, wrapper)
        _wrapped.append((loop, name, own, wrapper))


def _wrap(original: Any, changed: Callable[[int], None]) -> Any:
    @functools.wraps(original)
    def wrapper(loop: Any, sig: Any, *arguments: Any, **options: Any) -> Any:
        result = original(loop, sig, *arguments, **options)
        with contextlib.suppress(Exception):  # the loop has done its part
            changed(int(sig))
        return result

    return wrapper
