"""How a recording run ends: by ``finish()``, by the program's exit, by a signal, or by the next start.

Invariant: whether the program or the run ends first, the journal holds the end record before the process
is gone, and the shipper needs nothing more from this process. Nothing is imported on the way out. Code that a
module runs through ``eval`` (any namedtuple does) makes CPython forget that a Ctrl-C was not handled, and the
exit code would be 1 instead of death by SIGINT.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from trackside.events import LifecycleEvent
from trackside.lifecycle.exit_code import ExitCodeNote
from trackside.lifecycle.fork import abandon_in_children, keep_in_children
from trackside.lifecycle.in_flight import interpreter_is_leaving
from trackside.lifecycle.provisional import ProvisionalEnd
from trackside.lifecycle.provisional import forget as forget_provisional_ends
from trackside.session import current
from trackside.session.sinks import close_sinks
from trackside.session.undelivered import EndedRun, undelivered_runs

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.events import FinalStatus, RunStatus
    from trackside.lifecycle.own_errors import OwnErrors
    from trackside.session.assembly import Assembly
    from trackside.session.run import Counts


class Ending:
    """The end of one run. In a forked child that logs, ``heir()`` may continue the run."""

    def __init__(self, assembly: Assembly, errors: OwnErrors, heir: Callable[[], bool]) -> None:
        self._parts = assembly
        self._errors = errors
        self._heir = heir
        self._bus = assembly.plan.bus
        self._finishing = threading.Lock()
        self._provisional: ProvisionalEnd | None = None
        self._later: EndedRun | None = None
        self._how: str | None = None
        self.over = False
        """Whether the run has ended, or its start has failed."""
        self.delivered = False
        """Whether the end found everything delivered."""
        self.counts: Counts | None = None
        """The counts at the end, or None before it."""
        abandon_in_children(self)

    def finish(
        self,
        status: FinalStatus,
        error: BaseException | None = None,
        how: str | None = None,
        *,
        certain: bool = False,
        wait: bool = True,
    ) -> None:
        """End the run, once. ``error`` is behind the end. ``how``: the end in a few words.

        ``certain``: whatever exception is in flight says nothing about the run. ``wait``: wait for delivery.
        Else the exit of the process does, for all such runs together.
        """
        with self._finishing:
            if self.over:
                return
            self.over = True
        parts, self._how = self._parts, how
        self._bus.deliver_postponed()
        parts.activation.end(status)  # MLflow's own atexit hook would call it FINISHED
        if status != "FINISHED":
            self._keep_evidence(status, self._errors.in_flight() if error is None else error)
        elif not certain:
            self._provisional = self._provisional_end()
        if self._provisional is None:
            self._bus.emit(LifecycleEvent("finished", status=status, message=how))
            self._disconnect()
        else:
            self._await_exception(self._provisional)
        parts.opening.leave_opening_untold()
        if wait or not parts.delivery.online:
            self._wait_for_delivery()
        else:
            self._leave_delivery_to_the_shipper()
        close_sinks(parts.sinks)  # last: a slow sink must not outlast the shipper's patience

    def _wait_for_delivery(self) -> None:
        parts = self._parts
        self.delivered = parts.delivery.wait_for_end()
        # An exception in flight may still make it FAILED. The exit says what became of it.
        self._announce(parts.lifecycle.status if self._provisional is None else None)
        self.counts = parts.delivery.counts()  # the journal goes once the shipper is dismissed
        if self._provisional is None:
            parts.dismiss_shipper()
        if parts.delivery.online:
            undelivered_runs.note_read(parts.journal)

    def _leave_delivery_to_the_shipper(self) -> None:
        parts = self._parts
        self._later = EndedRun(parts.journal, parts.delivery, parts.shipper, self._learn_outcome)
        parts.delivery.begin_end()
        if self._provisional is None:
            parts.leave_shipper()
        undelivered_runs.add(id(self), self._later)
        undelivered_runs.limit_processes(parts.plan.settings.exit_timeout)

    def _learn_outcome(self, delivered: bool) -> None:
        """Called once the delivery that :meth:`finish` has not waited for is over, or the process is."""
        parts = self._parts
        self.delivered = delivered
        final = self._provisional is None or self._provisional.final
        self._announce(parts.lifecycle.status if final else None)
        self.counts = parts.delivery.counts()
        if final:
            parts.dismiss_shipper()

    def flush(self, timeout: float) -> bool:
        """Whether everything is delivered of a run that is over. Waits if its end has not."""
        if self._later is not None and not self.delivered:
            undelivered_runs.wait_for([self._later], timeout)
        return self.delivered

    def fail_start(self, error: BaseException) -> None:
        """Undo a start that ``error`` has stopped."""
        self.over = True
        interrupted = not isinstance(error, Exception)
        if interrupted:  # the shipper may have made the run by now, and then has to end it
            self._bus.emit(LifecycleEvent("finished", status="KILLED"))
        self._disconnect()
        self._parts.dismiss_shipper()
        if not (interrupted and self._parts.shipper.pid is not None):
            self._parts.remove_journal()

    def at_exit(self) -> None:
        """The interpreter leaves, and the program did not call ``finish()``: wait for delivery."""
        parts = self._parts
        if parts.exit_code is not None:
            parts.exit_code.renew()
        if self.over and (self._provisional is None or self._provisional.conclude_if_handled()):
            return
        known = parts.lifecycle.status
        status: RunStatus = "FINISHED" if known == "RUNNING" else known
        parts.activation.end(status)
        parts.opening.leave_opening_untold()
        parts.delivery.begin_end()

        def conclude(delivered: bool) -> None:
            if delivered:
                parts.hold_exit()
            # `raise SystemExit(3)` looks like a return until after this: the status is not certain yet.
            self._announce(status if status != "FINISHED" or parts.hooks.exits.knows_code else None)

        undelivered_runs.add(id(self), EndedRun(parts.journal, parts.delivery, parts.shipper, conclude))

    def before_death(self) -> None:
        """A terminate signal is about to end this process."""
        if not self.over:
            self._parts.delivery.wait_before_death()
            undelivered_runs.wait_before_death(self._parts.plan.settings.terminate_timeout)

    def abandon(self) -> None:
        """In a forked child: become inert. The run is the parent's, unless the child is its heir."""
        over, self.over = self.over, True
        self._provisional = None
        forget_provisional_ends()
        self._parts.writer.abandon()
        self._parts.shipper.abandon()
        self._bus.forget_all(self._parts.journal.path, None if over else self._heir)
        ExitCodeNote.abandon_all()
        current.recording_runs.clear()

    def _announce(self, status: RunStatus | None) -> None:
        delivery = self._parts.delivery
        self._parts.announcer.tell_end(delivery.run_info(), status, delivery.told)

    def _keep_evidence(self, status: FinalStatus, error: BaseException | None) -> None:
        """Report the exception behind a ``finish("FAILED")``, wherever it is by now."""
        hooks = self._parts.hooks
        if error is not None:
            hooks.exceptions.report_passing(error, status="KILLED" if status == "KILLED" else None)
            return
        hooks.exceptions.report_uncaught()  # another library's excepthook calls us: nothing is in flight
        if interpreter_is_leaving():
            hooks.exits.report_cause()

    def _provisional_end(self) -> ProvisionalEnd | None:
        """What may still show that the program has crashed, or None."""
        error, hooks = self._errors.in_flight(), self._parts.hooks
        hooks.exits.note(error)
        if error is None and not interpreter_is_leaving():
            return None
        return ProvisionalEnd(
            self._bus,
            error,
            hooks,
            self._errors,
            make_final=self._conclude,
            wait=self._parts.delivery.wait_until_concluded,
            tidy_up=self._tidy_up,
        )

    def _await_exception(self, end: ProvisionalEnd) -> None:
        """Take no more events, but keep listening for the end of the program."""
        parts = self._parts
        self._bus.emit(LifecycleEvent("finishing", status="FINISHED", error_type=end.error_type))
        for sink in parts.sinks:
            if sink is not parts.lifecycle:
                self._bus.detach(sink)
        current.leave(self._bus, parts.journal)

    def _conclude(self) -> None:
        """Write into the journal that this is the end."""
        parts = self._parts
        self._bus.detach(parts.lifecycle)
        parts.lifecycle.on_lifecycle(LifecycleEvent("finished", status="FINISHED", message=self._how))
        parts.shipper.nudge()
        if self._later is None:
            parts.shipper.dismiss()

    def _tidy_up(self) -> None:
        self._disconnect()
        if self._later is None or self.delivered:
            self._parts.dismiss_shipper()
        else:
            self._parts.leave_shipper()

    def _disconnect(self) -> None:
        self._parts.disconnect()
        keep_in_children(self)
