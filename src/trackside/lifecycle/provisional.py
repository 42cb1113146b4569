"""An end that is not certain yet: ``finish()`` was called while an exception was on its way.

In ``finally: run.finish()`` it is not known yet whether the exception will be handled. So the run shows
FINISHED, and hooks and shipper stay, until one of these happens:

* The exception, or one that came of it, ends the program. That is a crash like any other.
* The exception is gone, so it was handled. FINISHED becomes final.
* The program starts its next run on the same bus. FINISHED becomes final, unless the exception was last seen
  uncaught, or has left the function that started the run and is still kept (by a sweep that collects its
  failures, say).
* The program starts a run on another bus (a bus for each trial, in a thread pool). If the exception has left
  the function that started this run, and is still kept, the run has FAILED. Of the ends that stay
  provisional, :data:`MAX_OPEN` may wait.
* The process ends. Its exit code decides, as it does when the program never calls ``finish()``.

Invariant: the number of provisional ends never grows with that of the runs, because each one keeps a shipper
and its hooks.
"""

from __future__ import annotations

import _thread
import contextlib
import threading
from typing import TYPE_CHECKING

from trackside.lifecycle.in_flight import InFlightException

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.lifecycle.hooks import ProcessHooks
    from trackside.lifecycle.own_errors import OwnErrors

_open: dict[int, ProvisionalEnd] = {}
"""By the id of the bus."""

MAX_OPEN = 8
"""Ends of other buses that may wait for their exceptions when a run starts."""


class ProvisionalEnd:
    """Waits to see what becomes of ``error`` or, without one, of the interpreter's exit.

    ``hooks`` and ``errors`` are the run's. ``make_final()`` writes the end into the journal, on any thread.
    ``wait()`` waits until the shipper has read it. ``tidy_up()`` takes the hooks out, on the main thread
    unless any thread can.
    """

    def __init__(
        self,
        bus: object,
        error: BaseException | None,
        hooks: ProcessHooks,
        errors: OwnErrors,
        *,
        make_final: Callable[[], None],
        wait: Callable[[], None],
        tidy_up: Callable[[], None],
    ) -> None:
        self._bus = id(bus)
        self._hooks, self._errors = hooks, errors
        self._make_final, self._wait, self._tidy_up = make_final, wait, tidy_up
        self._lock = threading.Lock()
        self._handled = self.final = self._tidy = False
        self._passing = None if error is None else InFlightException(error, self._on_gone)
        hooks.exceptions.heed_only(self.concerns)
        _open[self._bus] = self

    @property
    def error_type(self) -> str | None:
        """The exception's name."""
        return None if self._passing is None else self._passing.error_type

    def concerns(self, error: BaseException | None) -> bool:
        """Whether ``error``, which was not caught, tells something about this end."""
        if self.final:
            return False
        return self._passing is None or self._passing.is_behind(error)

    def conclude(self, *, wait: bool = False) -> None:
        """Make final what ``finish()`` said, or the crash seen since."""
        with self._lock:
            if not self.final:
                self._report()
                self._make_final()
                self.final = True
            if wait:
                self._wait()
            in_main = threading.current_thread() is threading.main_thread()
            if not self._tidy and (in_main or not self._hooks.signals.needs_main_thread):
                self._tidy = True
                self._tidy_up()
                if _open.get(self._bus) is self:
                    forget(self._bus)

    def conclude_if_left(self) -> None:
        """Conclude if the exception has left all code that could handle it before the run is over."""
        if self.final or self._left_by() is not None:
            self.conclude()

    def conclude_if_handled(self) -> bool:
        """Whether the end is known by now."""
        if self._handled and not self.final:
            self.conclude()
        return self.final

    def _report(self) -> None:
        self._hooks.exceptions.report_uncaught()
        left = self._left_by()
        if left is not None:
            self._hooks.exceptions.report_passing(left)

    def _left_by(self) -> BaseException | None:
        """The exception, if it has left the function that started the run and is still kept."""
        if self._passing is None or not self._passing.is_alive:
            return None
        found = self._errors.left_by()
        return found if found is not None and self.concerns(found) else None

    def _on_gone(self) -> None:
        """Called where the last reference is dropped, say by the garbage collector: wait for no lock here."""
        self._handled = True
        with contextlib.suppress(RuntimeError):  # no more threads: the exit sees to it
            _thread.start_new_thread(self.conclude, ())


def conclude_earlier(bus: object) -> None:
    """The program starts another run on ``bus``, so it did not end with the one before."""
    earlier = _open.get(id(bus))
    if earlier is not None:
        earlier.conclude(wait=True)


def conclude_others(bus: object) -> None:
    """The program starts a run on ``bus``: see what has become of the ends of other buses."""
    others = [end for key, end in list(_open.items()) if key != id(bus)]
    for end in others:
        end.conclude_if_left()
    waiting = [end for end in others if not end.final]
    for end in waiting[: max(0, len(waiting) - MAX_OPEN)]:
        end.conclude()


def forget(bus: int | None = None) -> None:
    """Drop the end of ``bus`` (its id). Without one, as in a forked child, drop all."""
    if bus is None:
        _open.clear()
    else:
        _open.pop(bus, None)
