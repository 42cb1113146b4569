"""An end that is not certain yet: ``finish()`` was called while an exception was on its way.

In ``finally: run.finish()`` nobody can know whether the exception will be handled. So the run shows
FINISHED, and hooks and shipper stay, until one of these tells:

* the exception, or one that came of it, comes out on top: a crash like any other;
* it is gone, so it was handled: FINISHED for good;
* the program starts its next run: FINISHED for good, unless the exception was last seen uncaught, or is kept
  by somebody and has left the function that started the run (a sweep that collects its failures);
* it starts one on another bus (a bus a trial, in a thread pool), and somebody keeps an exception that has
  left the function that started this one: FAILED. Of those that are still open, :data:`MAX_OPEN` may wait;
* the process ends: its exit code decides, as it does where nobody calls ``finish()``.

Invariant: what is open keeps a shipper, and its hooks. So their number never grows with that of the runs.
"""

from __future__ import annotations

import _thread
import contextlib
import threading
from typing import TYPE_CHECKING

from trackside.lifecycle.in_flight import InFlightException

if TYPE_CHECKING:
    from collections.abc import Callable

_open: dict[int, ProvisionalEnd] = {}
"""By the id of the bus."""

MAX_OPEN = 8
"""Ends of other buses that may wait for their exceptions when a run starts."""


class ProvisionalEnd:
    """Waits to see what becomes of ``error``, or, without one, of the exit the interpreter is at.

    ``settle()`` makes the end final, on any thread; ``wait()`` waits for the shipper to have heard;
    ``tidy_up()`` takes the hooks out. It is called on the main thread, unless ``anywhere()`` says that every
    thread can do that. ``has_left(end)`` tells whether somebody keeps an exception that has left the function
    that started the run.
    """

    def __init__(
        self,
        bus: object,
        error: BaseException | None,
        *,
        settle: Callable[[], None],
        wait: Callable[[], None],
        tidy_up: Callable[[], None],
        anywhere: Callable[[], bool] = lambda: False,
        has_left: Callable[[ProvisionalEnd], bool] = lambda _: False,
    ) -> None:
        self._bus = id(bus)
        self._settle, self._wait, self._tidy_up = settle, wait, tidy_up
        self._anywhere, self._has_left = anywhere, has_left
        self._lock = threading.Lock()
        self._handled = self.settled = self._tidy = False
        self._passing = None if error is None else InFlightException(error, self._on_gone)
        _open[self._bus] = self

    @property
    def error_type(self) -> str | None:
        """The exception's name."""
        return None if self._passing is None else self._passing.error_type

    @property
    def is_alive(self) -> bool:
        """Whether the exception still exists: somebody keeps it, or it is still on its way."""
        return self._passing is not None and self._passing.is_alive

    def concerns(self, error: BaseException | None) -> bool:
        """Whether ``error``, which nobody caught, tells something of this end."""
        if self.settled:
            return False
        return self._passing is None or self._passing.is_behind(error)

    def conclude(self, *, wait: bool = False) -> None:
        """What ``finish()`` said, or the crash seen since, is final."""
        with self._lock:
            if not self.settled:
                self._settle()
                self.settled = True
            if wait:
                self._wait()
            in_main = threading.current_thread() is threading.main_thread()
            if not self._tidy and (in_main or self._anywhere()):
                self._tidy = True
                self._tidy_up()
                if _open.get(self._bus) is self:
                    forget(self._bus)

    def conclude_if_left(self) -> None:
        """Conclude if the exception is past all that could handle it before the run is over."""
        if self.settled or (self.is_alive and self._has_left(self)):
            self.conclude()

    def conclude_if_handled(self) -> bool:
        """Whether the end is known by now."""
        if self._handled and not self.settled:
            self.conclude()
        return self.settled

    def _on_gone(self) -> None:
        """Called by whoever drops the last reference, say the garbage collector: wait for no lock here."""
        self._handled = True
        with contextlib.suppress(RuntimeError):  # no more threads: the exit sees to it
            _thread.start_new_thread(self.conclude, ())


def conclude_earlier(bus: object) -> None:
    """The program goes on with another run, so it did not end with the one before."""
    earlier = _open.get(id(bus))
    if earlier is not None:
        earlier.conclude(wait=True)


def conclude_others(bus: object) -> None:
    """The program starts a run on ``bus``: see what has become of the ends of other buses."""
    others = [end for key, end in list(_open.items()) if key != id(bus)]
    for end in others:
        end.conclude_if_left()
    waiting = [end for end in others if not end.settled]
    for end in waiting[: max(0, len(waiting) - MAX_OPEN)]:
        end.conclude()


def forget(bus: int | None = None) -> None:
    """Drop the end of ``bus`` (its id); all, in a forked child."""
    if bus is None:
        _open.clear()
    else:
        _open.pop(bus, None)
