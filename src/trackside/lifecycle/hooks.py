"""What turns exceptions, signals and exits of this process into LifecycleEvents on the bus.

Invariants:

* Whoever was hooked in before still runs, after us: the traceback, the exit code and the death by signal
  the user sees are what they would have been. ``uninstall`` restores what is still ours to restore.
* In signal context only the scoreboard's slot is written; the event waits for the next emit or the exit.
* What only the main thread can undo, signal handlers and the wakeup descriptor, it undoes when it next hooks
  in or out, if the run has ended on another thread. So nothing grows with the number of runs.
* Signals are hooked in the main thread only, and only those that Python handles or leaves to the system:
  an ignored signal stays ignored, a handler that C code installed is left alone.
* A handler on top of ours may call ours or not: the process dies, or lives on, as it would without us
  (:mod:`trackside.lifecycle.signal_chain`).
* A wakeup descriptor somebody else set (asyncio) is left alone. There is one a process: of several runs
  the oldest has it, and passes it on when it ends.
* An event loop that takes a signal's handler and the wakeup descriptor gets our handler on top of its own
  (:mod:`trackside.lifecycle.event_loops`).
* The exception that is being handled when the program calls ``sys.exit`` is kept as text, never as an object:
  an object would keep its frames alive, and the tensors in them.
* An exception that belongs to an earlier run tells nothing about this one, whatever it ends.
* In a notebook an error ends its cell, not the program (:mod:`trackside.lifecycle.notebook`).
* A forked child gets back what its parent had before.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import logging
import os
import signal
import sys
import threading
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from trackside.events import LifecycleEvent, now_ms
from trackside.lifecycle.child_exit import at_child_exit
from trackside.lifecycle.crash import MAX_MESSAGE, crash_event, exit_cause, text_of
from trackside.lifecycle.event_loops import leave_event_loops, watch_event_loops
from trackside.lifecycle.expected import NOTHING_ELSE, Expected
from trackside.lifecycle.fork import abandon_in_children, keep_in_children
from trackside.lifecycle.notebook import CellWatch
from trackside.lifecycle.signal_chain import SignalLink
from trackside.settings import DEFAULT_TERMINATE_SIGNALS

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self

    from trackside.event_bus.bus import Bus
    from trackside.lifecycle.verdict import RunStatus

logger = logging.getLogger(__name__)

NoteSignal = Callable[[int, int], None]


def _nothing(*_: Any) -> None:
    """Stand in for a callback nobody gave."""


def _everything(_: object) -> bool:
    """Stand in for a choice nobody made."""
    return True


def _one_at_a_time(change: Callable[[ProcessHooks], None]) -> Callable[[ProcessHooks], None]:
    """Let hooks of other threads in before or after ``change``: each replaces what it found there before."""

    @functools.wraps(change)
    def run(self: ProcessHooks) -> None:
        with ProcessHooks._changing:  # noqa: SLF001 - its own method, once it is decorated
            change(self)

    return run


def _nothing_is(_: object) -> bool:
    """Stand in for a choice nobody made, the other way."""
    return False


class ProcessHooks:
    """The hooks of one bus.

    ``note_signal(number, at_ms)`` is called in signal context and must be safe there. ``before_death`` is
    called before the default action of a terminate signal ends the process, ``at_exit`` after the
    ``exited`` event. ``wakeup_descriptor`` is a non-blocking pipe for :func:`signal.set_wakeup_fd`.
    ``expected`` knows the exceptions that are not failures. ``written`` counts what was logged; with it, the
    cells of a notebook are watched. ``belongs_elsewhere(error)`` says that an exception is an earlier run's;
    ``own_end`` then makes the event that tells how this one ended. ``left_by()`` finds the exception by which
    the function that started the run was left, if somebody still keeps it.
    """

    _installed: ClassVar[list[ProcessHooks]] = []
    _wakeup_owner: ClassVar[ProcessHooks | None] = None
    _changing: ClassVar[threading.RLock] = threading.RLock()

    def __init__(
        self,
        bus: Bus,
        *,
        terminate_signals: Iterable[int] = DEFAULT_TERMINATE_SIGNALS,
        note_signal: NoteSignal = _nothing,
        before_death: Callable[[], None] = _nothing,
        at_exit: Callable[[], None] = _nothing,
        wakeup_descriptor: int | None = None,
        expected: Expected = NOTHING_ELSE,
        written: Callable[[], int] | None = None,
        belongs_elsewhere: Callable[[BaseException | None], bool] = _nothing_is,
        own_end: Callable[[], LifecycleEvent] | None = None,
        left_by: Callable[[], BaseException | None] = _nothing,
    ) -> None:
        self._bus = bus
        self._expected = expected
        self._belongs_elsewhere = belongs_elsewhere
        self._own_end = own_end
        self._left_by = left_by
        self._end_apart: LifecycleEvent | None = None
        self._cells = None if written is None else CellWatch(written, expected)
        self._terminate_signals = tuple(int(number) for number in terminate_signals)
        self._note_signal = note_signal
        self._before_death = before_death
        self._run_at_exit = at_exit
        self._wakeup_descriptor = wakeup_descriptor
        self._previous: dict[str, Any] = {}
        self._links: dict[int, SignalLink] = {}
        self._made: weakref.WeakSet[SignalLink] = weakref.WeakSet()
        self._wakeup_freed: Callable[[], None] = _nothing
        self._dying = self._left = False
        self._cancel_child_exit: Callable[[], None] = _nothing
        self._crash_seen: BaseException | None = None
        self._last_before = _last_exception()
        self._exit_argument: tuple[int, str | None, LifecycleEvent | None] | None = None
        self._concerns: Callable[[BaseException | None], bool] = _everything

    @_one_at_a_time
    def install(self) -> None:
        """Hook in; a second call changes nothing."""
        if self in ProcessHooks._installed:
            return
        ProcessHooks._installed.append(self)
        abandon_in_children(self)
        self._previous = {
            "excepthook": sys.excepthook,
            "threading": threading.excepthook,
            "exit": sys.exit,
        }
        sys.excepthook = self._on_exception
        threading.excepthook = self._on_thread_exception
        sys.exit = self._on_sys_exit  # type: ignore[assignment]  # same signature but for the name
        logging.getLogger("asyncio").addFilter(self._on_asyncio_record)
        atexit.register(self._on_exit)
        self._cancel_child_exit = at_child_exit(self._on_child_exit)
        if self._cells is not None:
            self._cells.install()
        if threading.current_thread() is threading.main_thread():
            with contextlib.suppress(ValueError):  # of a subinterpreter, which gets no signals
                self._hook_signals()

    @_one_at_a_time
    def uninstall(self) -> None:
        """Unhook, and restore what was there before wherever nobody has hooked in on top of us."""
        if self not in ProcessHooks._installed:
            return
        ProcessHooks._installed.remove(self)
        keep_in_children(self)
        atexit.unregister(self._on_exit)
        self._cancel_child_exit()
        if self._cells is not None:
            self._cells.uninstall()
        logging.getLogger("asyncio").removeFilter(self._on_asyncio_record)
        self._restore("excepthook", sys, "excepthook", self._on_exception)
        self._restore("threading", threading, "excepthook", self._on_thread_exception)
        self._restore("exit", sys, "exit", self._on_sys_exit)
        for link in list(self._made):
            link.retired = True
            self._take_out(link)
        if threading.current_thread() is threading.main_thread():
            self._unhook_signals()

    def heed_only(self, concerns: Callable[[BaseException | None], bool]) -> None:
        """Report an exception from now on only if ``concerns(error)``."""
        self._concerns = concerns
        if self._cells is not None:  # the exception itself tells from here on
            self._cells.uninstall()
            self._cells = None

    def report_uncaught(self) -> None:
        """Report the uncaught exception that did not come by our hook.

        Somebody has replaced ``sys.excepthook`` and does not call ours, or it is a notebook, which has its
        own way; the interpreter remembers all the same.
        """
        if self._cells is not None and self._cells.active:
            failure = self._cells.take_failure()
            if failure is not None:
                self._bus.emit(failure)
            return
        last = _last_exception()
        if last is None or last is self._last_before or last is self._crash_seen:
            return
        if not _typed_at_prompt(last.__traceback__):
            self._report_crash("crashed", type(last), last, last.__traceback__)

    def report_passing(self, error: BaseException, *, status: RunStatus | None = None) -> None:
        """Report an exception that is on its way while the program says that the run is over.

        ``status`` is what it means if it is not an expected one.
        """
        cause, text = exit_cause(error), ""
        if isinstance(error, SystemExit):
            code, message = _exit_code_and_text(error.code)
            text = f"exit code {code}: {message}" if message else f"exit code {code}"
        if cause is None:  # sys.exit() by itself
            self._bus.emit(LifecycleEvent("crashed", status, text, error_type="SystemExit"))
        elif cause is not self._crash_seen:
            suffix = f" ({text})" if text else ""
            trace = cause.__traceback__
            self._report_crash("crashed", type(cause), cause, trace, status=status, suffix=suffix)

    def report_exit_cause(self) -> None:
        """Report the exception that became the exit code: ``atexit`` functions run, so the code is known."""
        if self._exit_argument is not None and self._exit_argument[2] is not None:
            self._bus.emit(msgspec.structs.replace(self._exit_argument[2], kind="crashed"))

    @property
    def knows_exit_code(self) -> bool:
        """Whether the program has told the code that it leaves with."""
        return self._exit_argument is not None

    def note_exit(self, error: BaseException | None) -> None:
        """Keep what ``error`` tells of the exit, if it is a ``SystemExit`` that is on its way."""
        if isinstance(error, SystemExit):
            self._exit_argument = (*_exit_code_and_text(error.code), self._cause_event(error))

    def abandon(self) -> None:
        """Give a forked child back what its parent had before."""
        ProcessHooks._changing = threading.RLock()  # the old one may be held by a thread that is not here
        self._note_signal = self._before_death = self._run_at_exit = _nothing
        self._let_go_of_wakeup()  # before uninstall(), which would pass it on
        self.uninstall()

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        self.uninstall()

    def use_wakeup(self, descriptor: int) -> None:
        """Have signals written to ``descriptor`` from now on; -1: the program has closed the one so far."""
        if threading.current_thread() is not threading.main_thread() or descriptor == self._wakeup_descriptor:
            return
        with ProcessHooks._changing:
            if self._let_go_of_wakeup() or ProcessHooks._wakeup_owner is None:
                self._wakeup_descriptor = None if descriptor < 0 else descriptor
                self._take_wakeup()

    @property
    def holds_wakeup(self) -> bool:
        """Whether the system still writes to the wakeup descriptor, which must not be closed then.

        So after :meth:`uninstall` in another thread than the main one, the only one that may change it.
        """
        return ProcessHooks._wakeup_owner is self

    def when_wakeup_is_free(self, close: Callable[[], None]) -> None:
        """Call ``close()`` as soon as the system no longer writes to the wakeup descriptor: now, or later."""
        with ProcessHooks._changing:
            if self.holds_wakeup:
                self._wakeup_freed = close
                return
        close()

    @property
    def needs_main_thread(self) -> bool:
        """Whether only the main thread can undo all that these hooks have done."""
        return bool(self._links) or self.holds_wakeup

    @property
    def _active(self) -> bool:
        return self in ProcessHooks._installed

    def _restore(self, key: str, module: Any, name: str, ours: Any) -> None:
        if getattr(module, name) == ours:
            setattr(module, name, self._previous[key])
            return
        for other in ProcessHooks._installed:  # a run that started after us chains to us: take us out
            if other._previous.get(key) == ours:  # noqa: SLF001 - our own kind
                other._previous[key] = self._previous[key]  # noqa: SLF001

    # Exceptions

    def _on_exception(
        self, kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> None:
        if self._active and not _typed_at_prompt(trace):
            with contextlib.suppress(Exception):
                self._report_crash("crashed", kind, error, trace)
        self._previous["excepthook"](kind, error, trace)

    def _on_thread_exception(self, arguments: threading.ExceptHookArgs) -> None:
        if self._active and not issubclass(arguments.exc_type, SystemExit):
            with contextlib.suppress(Exception):
                self._report_crash(
                    "thread_crashed", arguments.exc_type, arguments.exc_value, arguments.exc_traceback
                )
        self._previous["threading"](arguments)

    def _on_asyncio_record(self, record: logging.LogRecord) -> bool:
        """Listen in on asyncio's logger, the one place where it tells of a task nobody awaited.

        A filter, not a handler: with any handler in place Python would print nothing of its own.
        """
        if record.exc_info and record.getMessage().startswith("Task exception was never retrieved"):
            kind, error, trace = record.exc_info
            if kind is not None:
                with contextlib.suppress(Exception):
                    self._report_crash("task_crashed", kind, error, trace)
        return True

    def _report_crash(
        self,
        kind: Any,
        error_type: type[BaseException],
        error: BaseException | None,
        trace: TracebackType | None,
        *,
        status: RunStatus | None = None,
        suffix: str = "",
    ) -> None:
        if not self._concerns(error):
            return
        if kind == "crashed" and self._belongs_elsewhere(error):
            self._end_apart = self._look_apart()
            return
        if kind == "crashed":
            self._crash_seen = error
        event = crash_event(
            kind, error_type, error, trace, expected=self._expected, status=status, suffix=suffix
        )
        self._bus.emit(event)

    # Exits

    def _on_sys_exit(self, status: Any = None, /) -> None:
        if self._active and threading.current_thread() is threading.main_thread():
            code, text = _exit_code_and_text(status)
            error = sys.exc_info()[1]
            if error is None and code:  # handled a moment ago, and kept to be reported: click does that
                error = self._left_by()
            elsewhere = error is not None and self._belongs_elsewhere(error)
            self._end_apart = self._look_apart() if elsewhere else None
            self._exit_argument = (code, text, self._cause_event(error))
        self._previous["exit"](status)

    def _on_child_exit(self) -> None:
        """Run by multiprocessing in a child of its own, whose exception never reaches ``sys.excepthook``."""
        error = sys.exc_info()[1]
        if isinstance(error, SystemExit):
            self._exit_argument = (*_exit_code_and_text(error.code), None)
            error = error.__context__ if self._exit_argument[0] else None  # torch's spawn exits with 1
        elif error is None:
            self._exit_argument = 0, None, None
        if error is not None and not isinstance(error, SystemExit):
            self._report_crash("crashed", type(error), error, error.__traceback__)
        self._on_exit()

    def _look_apart(self) -> LifecycleEvent | None:
        """How this run ended, if an earlier one's exception ends the program. Soon the traces are gone."""
        with contextlib.suppress(Exception):
            return None if self._own_end is None else self._own_end()
        return None

    def _cause_event(self, error: BaseException | None) -> LifecycleEvent | None:
        """What is kept of the exception that ``sys.exit`` answers."""
        with contextlib.suppress(Exception):
            cause = exit_cause(error)
            if cause is not None and self._concerns(cause):
                return crash_event(
                    "exit_cause", type(cause), cause, cause.__traceback__, expected=self._expected
                )
        return None

    def _on_exit(self) -> None:
        """Run by ``atexit``, after the threads that Python waits for have ended."""
        if self._left:
            return
        self._left = True
        self.report_uncaught()
        self._bus.deliver_postponed()
        if self._end_apart is not None:
            self._bus.emit(self._end_apart)
        code, text, cause = self._exit_argument or (None, None, None)
        if cause is not None and code:
            self._bus.emit(msgspec.structs.replace(cause, exit_code=code))
        self._bus.emit(LifecycleEvent("exited", exit_code=code, message=text))
        self._run_at_exit()

    # Signals

    def _hook_signals(self) -> None:
        for number in self._terminate_signals:
            _drop_retired(number)
            self._hook(number)
        self._take_wakeup()
        watch_event_loops(_on_loop_change)

    def _hook(self, number: int) -> None:
        """Get on top of the signal's handler, unless that is one of ours, ignored, or C code's."""
        current: Any = signal.getsignal(number)
        below = current.chain() if isinstance(current, SignalLink) else ()
        if self._links.get(number) in set(below) or current in {None, signal.SIG_IGN}:
            return
        link = SignalLink(number, current, note=self._note, die=self._die)
        link.install()
        self._links[number] = link
        self._made.add(link)

    def _rehook(self, number: int) -> None:
        """An event loop took or gave up the signal."""
        covered = number in self._terminate_signals
        # Any signal that a loop takes is hidden from the wakeup pipe. SIGINT explains an exit code, too.
        taken = not covered and signal.getsignal(number) not in {signal.SIG_DFL, signal.default_int_handler}
        if covered or taken:
            self._hook(number)
        if ProcessHooks._wakeup_owner in {None, self}:
            self._take_wakeup()

    def _take_wakeup(self) -> None:
        if self._wakeup_descriptor is None:
            return
        owner = ProcessHooks._wakeup_owner
        try:
            before = signal.set_wakeup_fd(self._wakeup_descriptor, warn_on_full_buffer=False)
        except (OSError, ValueError):  # the program has closed it; or this is not the main interpreter
            return
        one_of_ours = owner is not None and before == owner._wakeup_descriptor  # noqa: SLF001 - our own kind
        in_use = owner is None or not one_of_ours or owner._active  # noqa: SLF001
        if before != -1 and in_use:
            with contextlib.suppress(OSError, ValueError):  # closed: then nobody misses it
                signal.set_wakeup_fd(before, warn_on_full_buffer=not one_of_ours)
                return
        ProcessHooks._wakeup_owner = self
        if owner is not None and owner is not self:
            owner._tell_wakeup_freed()  # noqa: SLF001 - our own kind

    def _tell_wakeup_freed(self) -> None:
        told, self._wakeup_freed = self._wakeup_freed, _nothing
        told()

    def _give_wakeup(self) -> None:
        owner = ProcessHooks._wakeup_owner
        ended = self if owner is None or owner._active else owner  # noqa: SLF001 - our own kind
        if ended._let_go_of_wakeup():  # noqa: SLF001 - our own kind
            for other in ProcessHooks._installed:
                if ProcessHooks._wakeup_owner is None:
                    other._take_wakeup()  # noqa: SLF001 - our own kind

    def _let_go_of_wakeup(self) -> bool:
        """True when it was ours, and is nobody's now."""
        if ProcessHooks._wakeup_owner is not self:
            return False
        ProcessHooks._wakeup_owner = None
        current = signal.set_wakeup_fd(-1)
        ours = current in {-1, self._wakeup_descriptor}
        if not ours:
            signal.set_wakeup_fd(current)
        self._tell_wakeup_freed()
        return ours

    def _unhook_signals(self) -> None:
        for number in self._links:
            _drop_retired(number)
        self._give_wakeup()
        if not ProcessHooks._installed:
            leave_event_loops()

    def _take_out(self, ours: SignalLink) -> None:
        """A run that started after us chains to us: let it chain to what we replaced."""
        for other in ProcessHooks._installed:
            for link in other._links.values():  # noqa: SLF001 - our own kind
                if link.previous is ours:
                    link.previous = ours.previous

    def _note(self, number: int) -> None:
        """In signal context: note it, unless our run has ended and only somebody's chain still holds us."""
        if not self._active:
            return
        at_ms = now_ms()
        self._note_signal(number, at_ms)
        if number in self._terminate_signals:
            self._bus.postpone(LifecycleEvent("terminating", signal=number, timestamp_ms=at_ms))

    def _die(self, number: int) -> None:
        """The default action, once the shipper had a moment; a second signal does not wait for it."""
        if not self._dying:
            self._dying = True
            for hooks in list(ProcessHooks._installed):  # the first one's handler is called by the others'
                with contextlib.suppress(Exception):
                    hooks._before_death()  # noqa: SLF001 - our own kind
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _drop_retired(number: int) -> None:
    """Take links of ended runs off the top of a signal's handlers; on the main thread."""
    current: Any = signal.getsignal(number)
    if isinstance(current, SignalLink) and current.retired:
        signal.signal(number, current.in_use())


def _on_loop_change(number: int) -> None:
    if threading.current_thread() is threading.main_thread():
        for hooks in list(ProcessHooks._installed):  # noqa: SLF001 - our own kind
            hooks._rehook(number)  # noqa: SLF001 - our own kind


def _last_exception() -> BaseException | None:
    """The uncaught exception the interpreter last printed, as :mod:`sys` documents it."""
    return getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)


def _typed_at_prompt(trace: TracebackType | None) -> bool:
    """Whether the error is of a line typed at Python's own prompt, and of nothing that the line called."""
    return hasattr(sys, "ps1") and (trace is None or trace.tb_next is None)


def _exit_code_and_text(status: Any) -> tuple[int, str | None]:
    """What the argument of ``sys.exit`` means: a code, or a text that goes with code 1."""
    if status is None:
        return 0, None
    if isinstance(status, int):
        return status & 0xFF, None
    return 1, text_of(status)[:MAX_MESSAGE]
