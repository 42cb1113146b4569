"""Exceptions in flight through the caller: recognise one that ends the program, notice one that is gone.

A function that is called in a ``finally`` or an ``except`` sees the exception in :func:`sys.exc_info`, but
not what will become of it. Python offers no weak reference to it, and a strong one would keep alive all that
its frames hold, such as a batch on the GPU. So an exception of interest gets a mark among its attributes. A
weak reference to the mark tells when the exception is gone.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_KEY = "_trackside_mark"


class _Mark:
    __slots__ = ("__weakref__",)

    def __reduce__(self) -> tuple[Any, ...]:
        return bool, ()  # an exception pickled for another process takes its attributes along


class InFlightException:
    """Knows one exception without keeping it alive. ``gone()`` is called when it is handled and forgotten.

    It is not called if the interpreter itself drops the exception. A ``SystemExit``, with what it was raised
    from, ends so after the program's last frame.
    """

    def __init__(self, error: BaseException, gone: Callable[[], None] | None = None) -> None:
        self.error_type = type(error).__qualname__
        self._gone = gone
        mark = vars(error).setdefault(_KEY, _Mark())
        self._mark = weakref.ref(mark, self._on_gone)

    @property
    def is_alive(self) -> bool:
        """Whether the exception still exists."""
        return self._mark() is not None

    def is_behind(self, error: BaseException | None) -> bool:
        """Whether ``error`` is the one or came of it: raised from it or while it was handled, or a group."""
        mark = self._mark()
        return mark is not None and any(vars(e).get(_KEY) is mark for e in _family(error))

    def _on_gone(self, _: object) -> None:
        """Called wherever the last reference is dropped, locks held or not."""
        in_main = threading.get_ident() == threading.main_thread().ident
        if self._gone is not None and not (in_main and sys._getframe().f_back is None):  # noqa: SLF001
            self._gone()


def passing_exception() -> BaseException | None:
    """The exception being handled, or in flight, where this is called. None if it is not a failure."""
    error = sys.exc_info()[1]
    clean_exit = isinstance(error, SystemExit) and error.code in {None, 0}
    return None if isinstance(error, GeneratorExit) or clean_exit else error


def uncaught_exception() -> BaseException | None:
    """The uncaught exception the interpreter last printed, as :mod:`sys` documents it."""
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def interpreter_is_leaving() -> bool:
    """Whether this is called by an ``atexit`` function, or later: the exit code is fixed by then."""
    return not threading.main_thread().is_alive()


def _family(error: BaseException | None) -> Iterator[BaseException]:
    waiting, seen = [error], set()
    while waiting:
        one = waiting.pop()
        if one is not None and id(one) not in seen:
            seen.add(id(one))
            yield one
            waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
