"""A no-op run: what ``start()`` returns on other ranks and in disabled mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.errors import TrackingError
from trackside.events import LifecycleEvent
from trackside.lifecycle.crash import crash_event
from trackside.lifecycle.expected import NOTHING_ELSE
from trackside.lifecycle.in_flight import interpreter_is_leaving, uncaught_exception
from trackside.lifecycle.subscriber import LifecycleSubscriber
from trackside.session import current, fluent
from trackside.session.parent import NO_PARENT, Parent
from trackside.session.run import Run, status_with
from trackside.session.sinks import close_sinks

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trackside.event_bus.bus import Bus
    from trackside.events import ConfigEvent, FinalStatus, RunStatus
    from trackside.lifecycle.expected import Expected
    from trackside.lifecycle.peer_crash import CrashNoteHook


class NoopRun(Run):
    """A run that keeps nothing, for other ranks and disabled mode.

    Events go over its bus to the sinks that this rank is to have, which are closed at the end. The status
    follows the rules of every run.
    """

    def __init__(
        self,
        bus: Bus,
        *,
        sinks: Iterable[Any] = (),
        config: ConfigEvent | None = None,
        crash_notes: CrashNoteHook | None = None,
        expected: Expected = NOTHING_ELSE,
    ) -> None:
        super().__init__(bus)
        current.end_noop_run(bus)  # its sinks would get this run's events, too
        self._activation = fluent.Activation()
        self._crash_notes = crash_notes
        self._expected = expected
        self._uncaught_before = uncaught_exception()
        self._lifecycle = LifecycleSubscriber()
        self._sinks = [bus.attach(sink) for sink in (self._lifecycle, *sinks)]
        bus.silence()
        current.noop_runs[id(bus)] = self
        if crash_notes is not None:
            crash_notes.install()
        if config is not None:
            bus.emit(config)  # for the sinks of this rank

    @property
    def status(self) -> RunStatus:
        """As in :class:`Run`: RUNNING until the end, and then what ended it."""
        if not self._closed and interpreter_is_leaving():
            self._see_exit()
        return self._lifecycle.status

    @property
    def link(self) -> Parent:
        """A run nested under this one has no parent."""
        return NO_PARENT

    def __repr__(self) -> str:
        return f"<trackside.Run {self.status}, logging nothing: another rank, or TRACKSIDE_MODE=disabled>"

    def finish(
        self,
        status: FinalStatus = "FINISHED",
        *,
        error: BaseException | None = None,
        reason: str | None = None,
        wait: bool = True,  # noqa: ARG002 - nothing is delivered
    ) -> None:
        """End the run as ``status`` and close its sinks. Idempotent. ``ValueError`` for an unknown status."""
        wanted = status_with(error, status)
        if self._closed:
            return
        self._closed = True
        if error is not None and wanted != "FINISHED":
            self._fail(error)
        self._activation.end(wanted)
        self._lifecycle.on_lifecycle(LifecycleEvent("finished", status=wanted, message=reason))
        for sink in self._sinks:
            self._bus.detach(sink)
        close_sinks(self._sinks)
        if current.noop_runs.get(id(self._bus)) is self:
            del current.noop_runs[id(self._bus)]
        if self._crash_notes is not None:
            self._crash_notes.finish()

    def activate(self) -> Run:
        """Until :meth:`finish`, what you log through ``mlflow.*`` works and is not kept.

        Raises :class:`TrackingError` after the end.
        """
        if self._closed:
            raise TrackingError("the run has ended, and cannot be made active again")
        self._activation.swallow()
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        from trackside.session.handle import Names, RunHandle

        return RunHandle, (Names(NO_PARENT, "", None, self.status),)

    def _fail(self, error: BaseException) -> None:
        """The run ends as what ``error`` means. Rank 0 may have to know why this rank ended."""
        if self._crash_notes is not None and isinstance(error, Exception):
            self._crash_notes.note_exception(type(error), error, error.__traceback__)
        self._crash(error)

    def _see_exit(self) -> None:
        """The interpreter leaves and the program did not call ``finish()``: learn how it ended."""
        error = uncaught_exception()
        if error is not None and error is not self._uncaught_before:
            self._crash(error)
        else:
            self._lifecycle.on_lifecycle(LifecycleEvent("exited"))

    def _crash(self, error: BaseException) -> None:
        event = crash_event("crashed", type(error), error, error.__traceback__, expected=self._expected)
        self._lifecycle.on_lifecycle(event)

    def _warn_of_closed(self) -> None:
        """Say nothing: nothing was kept before the end either."""
