"""Exceptions of this process, turned into LifecycleEvents on the bus.

Invariants:

* The hooks that were installed before still run, after ours. You see the traceback that you would have seen
  without us.
* An exception that belongs to an earlier run tells nothing about this one, even if it ends the program.
* In a notebook an error ends its cell, not the program (:mod:`trackside.lifecycle.notebook`).
* No exception is kept as an object: that would keep its frames alive, and the tensors in them.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
from typing import TYPE_CHECKING

from trackside.events import LifecycleEvent
from trackside.lifecycle.crash import code_and_text, crash_event, exit_cause
from trackside.lifecycle.in_flight import uncaught_exception
from trackside.lifecycle.notebook import CellWatch
from trackside.lifecycle.replaced import Replaced

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from trackside.event_bus.bus import Bus
    from trackside.events import FinalStatus, LifecycleKind
    from trackside.lifecycle.expected import Expected
    from trackside.lifecycle.own_errors import OwnErrors


class ExceptionHooks:
    """Hooks for exceptions that no code catches: in the main thread, in threads, in tasks, in notebook cells.

    See :class:`trackside.lifecycle.hooks.ProcessHooks` for the arguments.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        expected: Expected,
        written: Callable[[], int] | None,
        errors: OwnErrors | None,
    ) -> None:
        self.end_apart: LifecycleEvent | None = None
        """How this run ended, if the exception of an earlier run ends the program."""
        self._bus = bus
        self._expected = expected
        self._errors = errors
        self._cells = None if written is None else CellWatch(written, expected)
        self._main = Replaced(sys, "excepthook", self._on_exception)
        self._threads = Replaced(threading, "excepthook", self._on_thread_exception)
        self._active = False
        self._crash_seen: BaseException | None = None
        self._last_before = uncaught_exception()
        self._concerns: Callable[[BaseException | None], bool] | None = None

    def install(self) -> None:
        """Hook in."""
        self._active = True
        self._main.replace()
        self._threads.replace()
        logging.getLogger("asyncio").addFilter(self._on_asyncio_record)
        if self._cells is not None:
            self._cells.install()

    def uninstall(self) -> None:
        """Unhook."""
        self._active = False
        if self._cells is not None:
            self._cells.uninstall()
        logging.getLogger("asyncio").removeFilter(self._on_asyncio_record)
        self._main.restore()
        self._threads.restore()

    def heed_only(self, concerns: Callable[[BaseException | None], bool]) -> None:
        """Report an exception from now on only if ``concerns(error)``."""
        self._concerns = concerns
        if self._cells is not None:  # from here on the exception itself tells
            self._cells.uninstall()
            self._cells = None

    def report_uncaught(self) -> None:
        """Report the uncaught exception that did not come by our hook.

        Other code may have replaced ``sys.excepthook`` without calling ours, and a notebook handles errors in
        its own way. The interpreter remembers the exception all the same.
        """
        if self._cells is not None and self._cells.active:
            failure = self._cells.take_failure()
            if failure is not None:
                self._bus.emit(failure)
            return
        last = uncaught_exception()
        if last is None or last is self._last_before or last is self._crash_seen:
            return
        if not _typed_at_prompt(last.__traceback__):
            self.report("crashed", type(last), last, last.__traceback__)

    def report_passing(self, error: BaseException, *, status: FinalStatus | None = None) -> None:
        """Report an exception that is on its way while the program says that the run is over.

        ``status`` is what the exception means if the program does not expect it.
        """
        cause, text = exit_cause(error), ""
        if isinstance(error, SystemExit):
            code, message = code_and_text(error.code)
            text = f"exit code {code}: {message}" if message else f"exit code {code}"
        if cause is None:  # sys.exit() by itself
            self._bus.emit(LifecycleEvent("crashed", status, text, error_type="SystemExit"))
        elif cause is not self._crash_seen:
            suffix = f" ({text})" if text else ""
            self.report("crashed", type(cause), cause, cause.__traceback__, status=status, suffix=suffix)

    def report(
        self,
        kind: LifecycleKind,
        error_type: type[BaseException],
        error: BaseException | None,
        trace: TracebackType | None,
        *,
        status: FinalStatus | None = None,
        suffix: str = "",
    ) -> None:
        """Emit the event for an exception of this run."""
        if not self._is_heeded(error):
            return
        if kind == "crashed" and self.look_apart(error):
            return
        if kind == "crashed":
            self._crash_seen = error
        event = crash_event(
            kind, error_type, error, trace, expected=self._expected, status=status, suffix=suffix
        )
        self._bus.emit(event)

    def cause_event(self, error: BaseException | None) -> LifecycleEvent | None:
        """What is kept of the exception that ``sys.exit`` answers."""
        with contextlib.suppress(Exception):
            cause = exit_cause(error)
            if cause is not None and self._is_heeded(cause):
                return crash_event(
                    "exit_cause", type(cause), cause, cause.__traceback__, expected=self._expected
                )
        return None

    def look_apart(self, error: BaseException | None) -> bool:
        """Whether ``error``, which ends the program, is an earlier run's. Then :attr:`end_apart` is known.

        It is found now, because soon the traces are gone.
        """
        self.end_apart = None
        if error is None or self._errors is None or not self._errors.belongs_elsewhere(error):
            return False
        with contextlib.suppress(Exception):
            self.end_apart = self._errors.end_apart()
        return True

    def _is_heeded(self, error: BaseException | None) -> bool:
        return self._concerns is None or self._concerns(error)

    def _on_exception(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if self._active and not _typed_at_prompt(trace):
            with contextlib.suppress(Exception):
                self.report("crashed", kind, error, trace)
        self._main.previous(kind, error, trace)

    def _on_thread_exception(self, arguments: threading.ExceptHookArgs) -> None:
        if self._active and not issubclass(arguments.exc_type, SystemExit):
            with contextlib.suppress(Exception):
                self.report(
                    "thread_crashed", arguments.exc_type, arguments.exc_value, arguments.exc_traceback
                )
        self._threads.previous(arguments)

    def _on_asyncio_record(self, record: logging.LogRecord) -> bool:
        """Listen to asyncio's logger, the one place where it reports a task whose exception was never read.

        This is a filter, not a handler: if the logger had any handler, Python would print nothing of its own.
        """
        if record.exc_info and record.getMessage().startswith("Task exception was never retrieved"):
            kind, error, trace = record.exc_info
            if kind is not None:
                with contextlib.suppress(Exception):
                    self.report("task_crashed", kind, error, trace)
        return True


def _typed_at_prompt(trace: TracebackType | None) -> bool:
    """Whether the error is of a line typed at Python's own prompt, not of code that the line called."""
    return hasattr(sys, "ps1") and (trace is None or trace.tb_next is None)
