"""Which exceptions tell something about a run, and which are those of earlier runs in the process.

A sweep calls one function that fails now and then, and may keep the exceptions for a report at its end.
Another exception may already be handled when a run starts. Neither says anything about this run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.events import LifecycleEvent
from trackside.lifecycle.crash import crash_event
from trackside.lifecycle.in_flight import InFlightException, passing_exception

if TYPE_CHECKING:
    from trackside.lifecycle.call_site import CallSite
    from trackside.lifecycle.expected import Expected


class OwnErrors:
    """The exceptions of one run. Made as the run starts, where the program called ``start()``."""

    def __init__(self, call_site: CallSite, expected: Expected) -> None:
        self._call_site = call_site
        self._expected = expected
        self._of_earlier_runs: list[InFlightException] = []
        handled = passing_exception()
        self._handled_before = None if handled is None else InFlightException(handled)

    def is_from(self, later: CallSite) -> bool:
        """Whether ``later`` is the call of ``start()`` that began this run, made once more."""
        return self._call_site.is_again(later)

    def follow(self, earlier: OwnErrors) -> None:
        """Learn from ``earlier``, the run before at the same place, which exceptions are not this run's."""
        known = [error for error in earlier._of_earlier_runs if error.is_alive]
        self._of_earlier_runs = [*known, *map(InFlightException, earlier._call_site.errors())]

    def in_flight(self) -> BaseException | None:
        """The exception in flight, unless it was already being handled when the run began."""
        error = passing_exception()
        return None if self._handled_before and self._handled_before.is_behind(error) else error

    def left_by(self) -> BaseException | None:
        """The exception that left the function that started this run, if the program still keeps it."""
        errors = [error for error in self._call_site.errors() if not self.belongs_elsewhere(error)]
        return errors[-1] if errors else None

    def belongs_elsewhere(self, error: BaseException | None) -> bool:
        """Whether ``error`` is an earlier run's."""
        return any(known.is_behind(error) for known in self._of_earlier_runs)

    def end_apart(self) -> LifecycleEvent:
        """How this run ended, when an earlier run's exception ends the program."""
        error = self.left_by()
        if error is None:
            how = "finished (an earlier run's exception ended the program)"
            return LifecycleEvent("finished", status="FINISHED", message=how)
        return crash_event("crashed", type(error), error, error.__traceback__, expected=self._expected)
