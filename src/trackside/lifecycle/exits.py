"""Exits of this process, turned into LifecycleEvents on the bus.

Invariants:

* The process leaves with the code that it would have left with without us.
* The exception that is being handled when the program calls ``sys.exit`` is kept as text, never as an object:
  an object would keep its frames alive, and the tensors in them.
* The ``exited`` event comes last, after all that is known of the exception behind it.
"""

from __future__ import annotations

import atexit
import sys
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from trackside.events import LifecycleEvent
from trackside.lifecycle.crash import code_and_text
from trackside.lifecycle.replaced import Replaced

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.event_bus.bus import Bus
    from trackside.lifecycle.exceptions import ExceptionHooks
    from trackside.lifecycle.own_errors import OwnErrors


_MULTIPROCESSING = ("multiprocessing", "multiprocess")
"""The standard library's, and its copy that pickles with dill."""

_LAST = -1000
"""The priority of a finalizer that runs after those of the user and of the library itself."""


class _Exit(NamedTuple):
    """What the program said when it called for its exit."""

    code: int | None = None
    text: str | None = None
    cause: LifecycleEvent | None = None
    """The exception that was being handled."""


class ExitHooks:
    """Hooks for ``sys.exit``, for the interpreter's exit, and for that of a child of :mod:`multiprocessing`.

    See :class:`trackside.lifecycle.hooks.ProcessHooks` for the arguments.
    """

    def __init__(
        self,
        bus: Bus,
        exceptions: ExceptionHooks,
        *,
        at_exit: Callable[[], None],
        errors: OwnErrors | None,
    ) -> None:
        self._bus = bus
        self._exceptions = exceptions
        self._run_at_exit: Callable[[], None] | None = at_exit
        self._errors = errors
        self._sys_exit = Replaced(sys, "exit", self._on_sys_exit)
        self._cancel_child_exit: Callable[[], None] | None = None
        self._asked: _Exit | None = None
        self._active = self._left = False

    def install(self) -> None:
        """Hook in."""
        self._active = True
        self._sys_exit.replace()
        atexit.register(self._on_exit)
        self._cancel_child_exit = at_child_exit(self._on_child_exit)

    def uninstall(self) -> None:
        """Unhook."""
        self._active = False
        atexit.unregister(self._on_exit)
        if self._cancel_child_exit is not None:
            self._cancel_child_exit()
        self._sys_exit.restore()

    def abandon(self) -> None:
        """In a forked child: do nothing at its exit."""
        self._run_at_exit = None

    @property
    def knows_code(self) -> bool:
        """Whether the program has said with which code it leaves."""
        return self._asked is not None

    def note(self, error: BaseException | None) -> None:
        """Keep what ``error`` tells of the exit, if it is a ``SystemExit`` that is on its way."""
        if isinstance(error, SystemExit):
            self._asked = _Exit(*code_and_text(error.code), self._exceptions.cause_event(error))

    def report_cause(self) -> None:
        """Report the exception that became the exit code: ``atexit`` functions run, so the code is known."""
        if self._asked is not None and self._asked.cause is not None:
            self._bus.emit(msgspec.structs.replace(self._asked.cause, kind="crashed"))

    def _on_sys_exit(self, status: Any = None, /) -> None:
        if self._active and threading.current_thread() is threading.main_thread():
            code, text = code_and_text(status)
            error = sys.exc_info()[1]
            if error is None and code and self._errors is not None:
                error = self._errors.left_by()  # handled, and kept to be reported: click does that
            self._exceptions.look_apart(error)  # so that end_apart is known
            self._asked = _Exit(code, text, self._exceptions.cause_event(error))
        self._sys_exit.previous(status)

    def _on_child_exit(self) -> None:
        """Run by multiprocessing in a child of its own, whose exception never reaches ``sys.excepthook``."""
        error = sys.exc_info()[1]
        if isinstance(error, SystemExit):
            self._asked = _Exit(*code_and_text(error.code))
            error = error.__context__ if self._asked.code else None  # torch's spawn exits with 1
        elif error is None:
            self._asked = _Exit(0)
        if error is not None and not isinstance(error, SystemExit):
            self._exceptions.report("crashed", type(error), error, error.__traceback__)
        self._on_exit()

    def _on_exit(self) -> None:
        """Run by ``atexit``, after the threads that Python waits for have ended."""
        if self._left:
            return
        self._left = True
        self._exceptions.report_uncaught()
        self._bus.deliver_postponed()
        if self._exceptions.end_apart is not None:
            self._bus.emit(self._exceptions.end_apart)
        code, text, cause = self._asked or _Exit()
        if cause is not None and code:
            self._bus.emit(msgspec.structs.replace(cause, exit_code=code))
        self._bus.emit(LifecycleEvent("exited", exit_code=code, message=text))
        if self._run_at_exit is not None:
            self._run_at_exit()


def at_child_exit(function: Callable[[], None]) -> Callable[[], None] | None:
    """Have ``function`` called as this process ends, if it is a child of :mod:`multiprocessing`.

    Returns what undoes that. Such a child passes neither ``atexit`` nor ``sys.excepthook``. A forked one
    leaves by ``os._exit``, and the library catches an exception, whatever the start method. But before that
    it runs its own finalizers, in a ``finally`` clause, where :func:`sys.exc_info` shows the exception.
    """
    for name in _MULTIPROCESSING:
        library = sys.modules.get(name)
        if library is not None and library.parent_process() is not None:
            cancel: Callable[[], None] = library.util.Finalize(None, function, exitpriority=_LAST).cancel
            return cancel
    return None
