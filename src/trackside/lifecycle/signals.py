"""Signals that ask this process to stop, noted and turned into LifecycleEvents on the bus.

Invariants:

* In signal context only the scoreboard's slot is written. The event waits for the next emit or the exit.
* Handlers that were installed before still run, after ours. The process dies by the signal, or survives it,
  as it would have without us (:mod:`trackside.lifecycle.signal_chain`).
* Only the main thread can undo signal handlers and the wakeup descriptor. If the run has ended on another
  thread, the main thread undoes them when it next hooks in or out. So nothing grows with the number of runs.
* Signals are hooked in the main thread only, and only those that Python handles or leaves to the system:
  an ignored signal stays ignored, and a handler that C code installed is left alone.
* A wakeup descriptor that other code has set (asyncio) is left alone. A process has only one: of several runs
  the oldest has it, and passes it on when it ends.
* An event loop that takes a signal's handler and the wakeup descriptor gets our handler on top of its own
  (:mod:`trackside.lifecycle.event_loops`).
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from typing import TYPE_CHECKING, Any, ClassVar

from trackside.events import LifecycleEvent, now_ms
from trackside.lifecycle.event_loops import leave_event_loops, watch_event_loops
from trackside.lifecycle.signal_chain import SignalLink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from trackside.event_bus.bus import Bus


def _nothing(*_: Any) -> None:
    """Stand in for a callback that was not given, or is no longer wanted."""


class SignalHooks:
    """Handlers for the terminate signals, and the wakeup descriptor.

    See :class:`trackside.lifecycle.hooks.ProcessHooks` for the arguments.
    """

    _installed: ClassVar[list[SignalHooks]] = []
    _wakeup_owner: ClassVar[SignalHooks | None] = None
    changing: ClassVar[threading.RLock] = threading.RLock()
    """Held while hooks are changed: each set of hooks replaces what it finds."""

    def __init__(
        self,
        bus: Bus,
        *,
        terminate_signals: Iterable[int],
        note_signal: Callable[[int, int], None],
        before_death: Callable[[], None],
        wakeup_descriptor: int | None,
    ) -> None:
        self._bus = bus
        self._terminate_signals = tuple(int(number) for number in terminate_signals)
        self._note_signal = note_signal
        self._before_death = before_death
        self._wakeup_descriptor = wakeup_descriptor
        self._wakeup_freed: Callable[[], None] = _nothing
        self._links: dict[int, SignalLink] = {}
        self._made: weakref.WeakSet[SignalLink] = weakref.WeakSet()
        self._dying = False

    def install(self) -> None:
        """Hook in. On another thread than the main one only the list of hooks changes."""
        SignalHooks._installed.append(self)
        if threading.current_thread() is threading.main_thread():
            with contextlib.suppress(ValueError):  # of a subinterpreter, which gets no signals
                self._hook_all()

    def uninstall(self) -> None:
        """Unhook, as far as this thread can."""
        if self in SignalHooks._installed:
            SignalHooks._installed.remove(self)
        for link in list(self._made):
            link.retired = True
            self._take_out(link)
        if threading.current_thread() is threading.main_thread():
            self.unhook_all()

    def abandon(self) -> None:
        """In a forked child: note nothing, and give up the wakeup descriptor without passing it on."""
        SignalHooks.changing = threading.RLock()  # the old one may be held by a thread that is not here
        self._note_signal = self._before_death = _nothing
        self._let_go_of_wakeup()

    def use_wakeup(self, descriptor: int) -> None:
        """Have signals written to ``descriptor`` from now on. -1: the program has closed the one so far."""
        if threading.current_thread() is not threading.main_thread() or descriptor == self._wakeup_descriptor:
            return
        with SignalHooks.changing:
            if self._let_go_of_wakeup() or SignalHooks._wakeup_owner is None:
                self._wakeup_descriptor = None if descriptor < 0 else descriptor
                self._take_wakeup()

    @property
    def holds_wakeup(self) -> bool:
        """Whether the system still writes to the wakeup descriptor, which must not be closed then.

        So it is after :meth:`uninstall` on another thread than the main one, which alone may change it.
        """
        return SignalHooks._wakeup_owner is self

    def when_wakeup_is_free(self, close: Callable[[], None]) -> None:
        """Call ``close()`` as soon as the system no longer writes to the wakeup descriptor: now, or later."""
        with SignalHooks.changing:
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
        return self in SignalHooks._installed

    def _hook_all(self) -> None:
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

    def rehook(self, number: int) -> None:
        """An event loop took or gave up the signal."""
        covered = number in self._terminate_signals
        # Any signal that a loop takes is hidden from the wakeup pipe. SIGINT explains an exit code, too.
        taken = not covered and signal.getsignal(number) not in {signal.SIG_DFL, signal.default_int_handler}
        if covered or taken:
            self._hook(number)
        if SignalHooks._wakeup_owner in {None, self}:
            self._take_wakeup()

    def unhook_all(self) -> None:
        """Undo, on the main thread, what only that thread can."""
        for number in self._links:
            _drop_retired(number)
        self._give_wakeup()
        if not SignalHooks._installed:
            leave_event_loops()

    def _take_out(self, ours: SignalLink) -> None:
        """Let a run that started after us, and chains to us, chain to what we replaced."""
        for other in SignalHooks._installed:
            for link in other._links.values():  # noqa: SLF001 - our own kind
                if link.previous is ours:
                    link.previous = ours.previous

    # The wakeup descriptor

    def _take_wakeup(self) -> None:
        if self._wakeup_descriptor is None:
            return
        owner = SignalHooks._wakeup_owner
        try:
            before = signal.set_wakeup_fd(self._wakeup_descriptor, warn_on_full_buffer=False)
        except (OSError, ValueError):  # the program has closed it, or this is not the main interpreter
            return
        one_of_ours = owner is not None and before == owner._wakeup_descriptor  # noqa: SLF001 - our own kind
        in_use = owner is None or not one_of_ours or owner._active  # noqa: SLF001
        if before != -1 and in_use:
            with contextlib.suppress(OSError, ValueError):  # closed: then its owner does not miss it
                signal.set_wakeup_fd(before, warn_on_full_buffer=not one_of_ours)
                return
        SignalHooks._wakeup_owner = self
        if owner is not None and owner is not self:
            owner._tell_wakeup_freed()  # noqa: SLF001 - our own kind

    def _tell_wakeup_freed(self) -> None:
        told, self._wakeup_freed = self._wakeup_freed, _nothing
        told()

    def _give_wakeup(self) -> None:
        owner = SignalHooks._wakeup_owner
        ended = self if owner is None or owner._active else owner  # noqa: SLF001 - our own kind
        if ended._let_go_of_wakeup():  # noqa: SLF001 - our own kind
            for other in SignalHooks._installed:
                if SignalHooks._wakeup_owner is None:
                    other._take_wakeup()  # noqa: SLF001 - our own kind

    def _let_go_of_wakeup(self) -> bool:
        """True when it was ours, and is free now."""
        if SignalHooks._wakeup_owner is not self:
            return False
        SignalHooks._wakeup_owner = None
        current = signal.set_wakeup_fd(-1)
        ours = current in {-1, self._wakeup_descriptor}
        if not ours:
            signal.set_wakeup_fd(current)
        self._tell_wakeup_freed()
        return ours

    # In signal context

    def _note(self, number: int) -> None:
        """Note the signal, unless our run has ended and only another handler's chain still holds us."""
        if not self._active:
            return
        at_ms = now_ms()
        self._note_signal(number, at_ms)
        if number in self._terminate_signals:
            self._bus.postpone(LifecycleEvent("terminating", signal=number, timestamp_ms=at_ms))

    def _die(self, number: int) -> None:
        """Play the default action, once the shipper had a moment. A second signal does not wait for it."""
        if not self._dying:
            self._dying = True
            for hooks in list(SignalHooks._installed):  # the first one's handler is called by the others'
                with contextlib.suppress(Exception):
                    hooks._before_death()  # noqa: SLF001 - our own kind
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _drop_retired(number: int) -> None:
    """On the main thread, take links of ended runs off the top of a signal's handlers."""
    current: Any = signal.getsignal(number)
    if isinstance(current, SignalLink) and current.retired:
        signal.signal(number, current.in_use())


def _on_loop_change(number: int) -> None:
    if threading.current_thread() is threading.main_thread():
        for hooks in list(SignalHooks._installed):  # noqa: SLF001 - our own kind
            hooks.rehook(number)
