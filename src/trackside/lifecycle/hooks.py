"""The hooks of one run in this process: exceptions, exits and signals become LifecycleEvents on the bus.

Invariants, besides those of the three modules:

* Hooks that were installed before still run, after ours: the traceback, the exit code and the death by signal
  that the user sees are what they would have been. ``uninstall`` restores what is still ours to restore.
* One set of hooks changes at a time, on all threads together.
* A forked child gets back what its parent had before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.lifecycle.exceptions import ExceptionHooks
from trackside.lifecycle.exits import ExitHooks
from trackside.lifecycle.expected import NOTHING_ELSE, Expected
from trackside.lifecycle.fork import abandon_in_children, keep_in_children
from trackside.lifecycle.signals import SignalHooks
from trackside.settings import DEFAULT_TERMINATE_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from typing_extensions import Self

    from trackside.event_bus.bus import Bus
    from trackside.lifecycle.own_errors import OwnErrors


def _nothing(*_: Any) -> None:
    """Stand in for a callback that was not given."""


class ProcessHooks:
    """The hooks of one bus.

    ``note_signal(number, at_ms)`` is called in signal context and must be safe there. ``before_death`` is
    called before the default action of a terminate signal ends the process, ``at_exit`` after the
    ``exited`` event. ``wakeup_descriptor`` is a non-blocking pipe for :func:`signal.set_wakeup_fd`.
    ``expected`` knows the exceptions that are not failures. ``written`` counts what was logged. With it, the
    cells of a notebook are watched. ``errors`` knows which exceptions are those of earlier runs.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        terminate_signals: Iterable[int] = DEFAULT_TERMINATE_SIGNALS,
        note_signal: Callable[[int, int], None] = _nothing,
        before_death: Callable[[], None] = _nothing,
        at_exit: Callable[[], None] = _nothing,
        wakeup_descriptor: int | None = None,
        expected: Expected = NOTHING_ELSE,
        written: Callable[[], int] | None = None,
        errors: OwnErrors | None = None,
    ) -> None:
        self.exceptions: ExceptionHooks = ExceptionHooks(
            bus, expected=expected, written=written, errors=errors
        )
        self.exits: ExitHooks = ExitHooks(bus, self.exceptions, at_exit=at_exit, errors=errors)
        self.signals: SignalHooks = SignalHooks(
            bus,
            terminate_signals=terminate_signals,
            note_signal=note_signal,
            before_death=before_death,
            wakeup_descriptor=wakeup_descriptor,
        )
        self._installed = False

    def install(self) -> None:
        """Hook in. A second call changes nothing."""
        with SignalHooks.changing:
            if self._installed:
                return
            self._installed = True
            abandon_in_children(self)
            self.exceptions.install()
            self.exits.install()
            self.signals.install()

    def uninstall(self) -> None:
        """Unhook, and restore what was there before wherever no other code has hooked in on top of us."""
        with SignalHooks.changing:
            if not self._installed:
                return
            self._installed = False
            keep_in_children(self)
            self.exits.uninstall()
            self.exceptions.uninstall()
            self.signals.uninstall()

    def abandon(self) -> None:
        """Give a forked child back what its parent had before."""
        self.signals.abandon()  # first: uninstall() would pass the wakeup descriptor on
        self.exits.abandon()
        self.uninstall()

    def __enter__(self) -> Self:
        self.install()
        return self

    def __exit__(self, *_: object) -> None:
        self.uninstall()
