"""A no-op run: what ``start()`` returns on other ranks and in disabled mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.lifecycle.verdict import checked_status
from trackside.session import fluent
from trackside.session.delivery import Counts
from trackside.session.parent import NO_PARENT
from trackside.session.run import Run
from trackside.session.sinks import close_sinks

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType

    from trackside.event_bus.bus import Bus
    from trackside.events import ConfigEvent
    from trackside.lifecycle.peer_crash import CrashNoteHook

inert_runs: dict[int, NoopRun] = {}
"""The run of each bus that logs nothing here, by the bus's id."""


class NoopRun(Run):
    """A run that logs nothing, for other ranks and disabled mode.

    Every method is there and does nothing. Only the ``sinks`` asked for on this rank are attached, and closed
    at the end.
    """

    def __init__(
        self,
        bus: Bus,
        crash_notes: CrashNoteHook | None = None,
        sinks: Iterable[Any] = (),
        config: ConfigEvent | None = None,
    ) -> None:
        self._bus = bus
        self._fluent = fluent.Activation()
        self._crash_notes = crash_notes
        self._sinks = [bus.attach(sink) for sink in sinks]
        bus.silence()
        inert_runs[id(bus)] = self
        if crash_notes is not None:
            crash_notes.install()
        if config is not None:
            bus.emit(config)  # for whoever listens here

    run_id = None
    url = ""
    status = "RUNNING"
    tracking_uri = ""
    dropped = 0
    counts = Counts()
    link = NO_PARENT

    def __repr__(self) -> str:
        return "<trackside.Run, logging nothing: another rank, or TRACKSIDE_MODE=disabled>"

    def __reduce__(self) -> tuple[Any, ...]:
        from trackside.session.handle import Names, RunHandle

        return RunHandle, (Names(NO_PARENT, ""),)

    def flush(self, timeout: float = 30.0) -> bool:  # noqa: ARG002
        """Nothing waits."""
        return True

    def finish(self, status: str = "FINISHED") -> None:
        """Nothing to end but the sinks; a status that is none is an error here too."""
        self._fluent.end(checked_status(status))
        for sink in self._sinks:
            self._bus.detach(sink)
        close_sinks(self._sinks)
        self._sinks = []
        if inert_runs.get(id(self._bus)) is self:
            del inert_runs[id(self._bus)]
        if self._crash_notes is not None:
            self._crash_notes.finish()

    def activate(self) -> Run:
        """What you log through ``mlflow.*`` until :meth:`finish` works, and is not kept."""
        self._fluent.swallow()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end, but rank 0 may have to know why this rank did."""
        if kind is not None and issubclass(kind, Exception) and self._crash_notes is not None:
            self._crash_notes.note_exception(kind, error, trace)
        self.finish()
