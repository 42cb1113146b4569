"""The bus: four blinker signals, and sinks attached to them.

Invariants:

* A sink that raises never reaches the emitter or the other sinks. Its first error is logged with the
  traceback, every error is counted, and after :data:`FAULTS_BEFORE_DETACH` in a row it is detached. Our own
  sinks stay (``stays_attached``), because without them the rest of a training would be lost.
* Sinks are held strongly and called in the order they were attached.
* ``emit`` takes no lock. ``attach`` and ``detach`` replace the tuple of handlers as a whole, so a sample
  meets either the old set or the new one, on every thread.
* A sink that emits does not receive its own events (:mod:`trackside.event_bus.feedback`).
* While only sinks listen, ``emit`` calls them itself, at a third of the cost of going through blinker.
* While one sink listens and offers ``quick_log``, ``log`` calls that, and makes no event of what it takes.
  Whatever ends this (a receiver, a second sink, a mute, a postponed event) happens first, and then None is
  stored in :attr:`Bus.quick_log`. ``emit`` stores the function again when that is over, and looks once more
  afterwards. So the last store is right, on whichever threads these happen.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from time import perf_counter, time_ns
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from trackside.artifact_calls import ArtifactCalls
from trackside.artifact_events import ARTIFACT_EVENTS
from trackside.event_bus.feedback import Feedback
from trackside.event_bus.signals import EventNamespace, EventSignal, refuse_coroutine
from trackside.event_bus.slow_sinks import SinkTimes
from trackside.events import ConfigEvent, Event, LifecycleEvent, LinkedSample, MetricsSample, ParamsEvent

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.protocols import AnySink

logger = logging.getLogger("trackside.event_bus")

FAULTS_BEFORE_DETACH = 10
"""How many errors in a row a sink may raise before it is detached."""

_S = TypeVar("_S", bound="AnySink")
_SIGNALS = ("metrics", "config", "lifecycle", "artifacts")

_HANDLERS = {
    "metrics": "on_metrics",
    "config": "on_config",
    "lifecycle": "on_lifecycle",
    "artifacts": "on_artifact",
}
"""The method of a sink that receives events of each signal."""


class _Attachment:
    """One attached sink, its handlers by signal name, and its record of faults."""

    __slots__ = ("faults", "faults_in_a_row", "handlers", "is_the_runs", "sink", "stays")

    def __init__(self, sink: Any, feedback: Feedback) -> None:
        self.sink = sink
        self.faults = 0
        self.faults_in_a_row = 0
        self.handlers = handlers_of(sink)
        self.is_the_runs = getattr(sink, "emits_nothing", False) is True
        if not self.is_the_runs:
            name = f"the sink {type(sink).__qualname__}"
            guarded = {signal: feedback.guard(call, name) for signal, call in self.handlers.items()}
            self.handlers = guarded
        self.stays = getattr(sink, "stays_attached", False) is True


_Route: TypeAlias = tuple[tuple[_Attachment, Callable[[Any], Any]], ...]
"""The sinks that want events of one kind, in calling order."""


QuickLog: TypeAlias = Callable[[Any, Any, Any, Any], bool]
"""Takes metrics, step, epoch and prefix of a sample of this moment. Returns False, and does nothing, if
it has to be emitted. Raises no ``Exception``."""


_Port: TypeAlias = tuple[EventSignal, Callable[[Any, Any], None], int]
"""Where events of one type go: their signal, its receiver that calls the sinks, the key of that receiver."""


class _QuickLogSlot:
    """Holds a bus's ``quick_log``, where a log finds it without the memory of the bus's other attributes."""

    __slots__ = ("quick_log",)

    quick_log: QuickLog | None
    """What takes a sample of metrics without an event, while nothing else wants to have that."""


class Bus(_QuickLogSlot, ArtifactCalls):
    """Signals for metrics, configuration, lifecycle and artifacts, and the sinks that listen to them."""

    def __init__(self, name: str = "trackside") -> None:
        self.name = name
        self.namespace: EventNamespace = EventNamespace()
        self.metrics: EventSignal = self.namespace.signal("metrics", doc="a MetricsSample a step, as event=")
        self.config: EventSignal = self.namespace.signal("config", doc="a ConfigEvent, as event=")
        self.lifecycle: EventSignal = self.namespace.signal("lifecycle", doc="a LifecycleEvent, as event=")
        self.artifacts: EventSignal = self.namespace.signal("artifacts", doc="an ArtifactEvent, as event=")
        self.quick_log = None
        self._offered_quick_log: QuickLog | None = None
        self._attachments: tuple[_Attachment, ...] = ()
        self._routes: dict[str, _Route] = {}
        self._changing = threading.RLock()
        self._feedback = Feedback()
        self._silent_reported = False
        self._parents_journal: Path | None = None
        self._heir: Callable[[], bool] | None = None
        self._postponed: deque[Event] = deque()
        self._times = {signal: SinkTimes() for signal in _SIGNALS}
        self._dispatchers = {signal: self._dispatcher(signal) for signal in _SIGNALS}
        self.metrics.on_change = self._end_quick_log
        self._ports: dict[type, _Port] = {
            MetricsSample: self._port(self.metrics),
            LinkedSample: self._port(self.metrics),
            ConfigEvent: self._port(self.config),
            ParamsEvent: self._port(self.config),
            LifecycleEvent: self._port(self.lifecycle),
            **{kind: self._port(self.artifacts) for kind in ARTIFACT_EVENTS},
        }

    def emit(self, event: Event) -> None:
        """Send ``event`` on the signal of its type. Never raises an ``Exception``."""
        if self._postponed:
            self.deliver_postponed()
        port = self._ports.get(type(event))
        if port is None:
            self._refuse(event)
            return
        signal, call_sinks, sinks_id = port
        receivers = signal.receivers
        if len(receivers) == 1 and sinks_id in receivers and not signal.is_muted:
            call_sinks(self, event)
            if self._offered_quick_log is not self.quick_log:
                self._begin_quick_log()
        elif receivers:
            signal.send(self, event=event)
        elif self._heir is not None and self.continue_inherited():
            self.emit(event)
        elif not self._silent_reported and signal in {self.metrics, self.artifacts}:
            self._report_silence()

    def log(
        self,
        metrics: Mapping[str, Any],
        step: int | None = None,
        epoch: float | None = None,
        prefix: str | None = None,
    ) -> None:
        """Log the metrics of one step on this bus, as :func:`trackside.log` does on the default bus.

        Short for ``emit(MetricsSample(step, epoch, metrics, prefix))``. Never raises an ``Exception``.
        """
        quick_log = self.quick_log
        if quick_log is None or not quick_log(metrics, step, epoch, prefix):
            self.emit(MetricsSample(step, epoch, metrics, prefix, time_ns() // 1_000_000))

    def postpone(self, event: Event) -> None:
        """Send ``event`` before the next one that is emitted.

        This is for signal handlers. They interrupt the main thread anywhere, such as inside a sink that holds
        a lock, and must not call sinks from there.
        """
        self._postponed.append(event)
        self.quick_log = None

    def deliver_postponed(self) -> None:
        """Send what was postponed, now."""
        while True:
            try:
                event = self._postponed.popleft()
            except IndexError:  # not checked beforehand: another thread may deliver them at the same time
                return
            port = self._ports.get(type(event))
            if port is None:
                self._refuse(event)
            else:
                port[0].send(self, event=event)

    def attach(self, sink: _S) -> _S:
        """Connect ``sink`` and return it.

        ``sink`` is an object with any of ``on_metrics(sample)``, ``on_config(event)``,
        ``on_lifecycle(event)`` and ``on_artifact(event)``, or a plain function, which gets the metrics.
        Attaching the same one twice changes nothing. Raises ``TypeError`` for anything else, including
        coroutine functions.
        """
        attachment = _Attachment(sink, self._feedback)
        with self._changing:
            if self._find(sink) is None:
                self._replace((*self._attachments, attachment))
        return sink

    def detach(self, sink: AnySink) -> None:
        """Disconnect ``sink`` if it is attached. Does not close it."""
        with self._changing:
            found = self._find(sink)
            if found is not None:
                self._replace(tuple(a for a in self._attachments if a is not found))

    @contextmanager
    def attached(self, sink: _S) -> Iterator[_S]:
        """``with bus.attached(sink):`` attaches for the block, then detaches."""
        self.attach(sink)
        try:
            yield sink
        finally:
            self.detach(sink)

    @property
    def sinks(self) -> tuple[AnySink, ...]:
        """The attached sinks, in calling order."""
        return tuple(attachment.sink for attachment in self._attachments)

    def faults(self, sink: AnySink) -> int:
        """How many errors an attached ``sink`` has raised so far."""
        found = self._find(sink)
        return 0 if found is None else found.faults

    def silence(self) -> None:
        """Do not warn that no sink is attached, because this rank should have none."""
        self._silent_reported = True

    def forget_all(self, journal: Path | None = None, heir: Callable[[], bool] | None = None) -> None:
        """Detach everything without a lock, in a forked child, where the lock may be held forever.

        ``journal`` is that of the parent's run. The first child that logs warns that the run is not its own.
        Before that, ``heir()`` may attach a sink here, which then gets the event. It returns True if it did.
        """
        self._heir = heir
        self._changing = threading.RLock()
        self._postponed.clear()
        self._replace(())
        self._silent_reported = journal is None
        self._parents_journal = journal

    def __reduce__(self) -> tuple[Callable[[str, bool], Bus], tuple[str, bool]]:
        """Pickle no sinks. In another process this is a new bus of the same name, or the default bus."""
        return _bus_of_another_process, (self.name, self is default_bus)

    def __deepcopy__(self, _memo: object) -> Bus:
        """Return the bus itself, so that a copy of its holder logs to the same bus."""
        return self

    def __copy__(self) -> Bus:
        return self

    def _find(self, sink: Any) -> _Attachment | None:
        return next((a for a in self._attachments if _same(a.sink, sink)), None)

    def _replace(self, attachments: tuple[_Attachment, ...]) -> None:
        self._attachments = attachments
        for name in _SIGNALS:
            route = tuple((a, a.handlers[name]) for a in attachments if name in a.handlers)
            self._routes[name] = route
            signal = self.namespace.signal(name)
            if route:
                signal.connect(self._dispatchers[name], weak=False)
            else:
                signal.disconnect(self._dispatchers[name])
            self._times[name].restart()
        metrics = self._routes["metrics"]
        self._offered_quick_log = (
            getattr(metrics[0][0].sink, "quick_log", None) if len(metrics) == 1 else None
        )
        self._end_quick_log()

    def _end_quick_log(self) -> None:
        self.quick_log = None

    def _begin_quick_log(self) -> None:
        """Let :meth:`log` make no events, if only one sink would get them."""
        if self._has_one_listener():
            self.quick_log = self._offered_quick_log
            if not self._has_one_listener():  # another thread has connected one, and stored None before us
                self.quick_log = None

    def _has_one_listener(self) -> bool:
        signal, _, sinks_id = self._ports[MetricsSample]
        alone = len(signal.receivers) == 1 and sinks_id in signal.receivers
        return alone and not signal.is_muted and not self._postponed

    def _port(self, signal: EventSignal) -> _Port:
        dispatcher = self._dispatchers[signal.name]
        signal.feedback, signal.dispatcher = self._feedback, dispatcher
        return signal, dispatcher, id(dispatcher)

    def _dispatcher(self, name: str) -> Callable[..., None]:
        """Make one receiver for a signal. It calls the sinks in order (blinker's order is undefined)."""
        routes, times = self._routes, self._times[name]

        def dispatch(_sender: Any, event: Any) -> None:
            times.left -= 1
            if times.left <= 0:
                self._dispatch_timed(routes[name], event, times)
                return
            for attachment, handler in routes[name]:
                try:
                    handler(event)
                except Exception as error:  # the isolation the module promises
                    self._fault(attachment, error)
                else:
                    attachment.faults_in_a_row = 0

        return dispatch

    def _dispatch_timed(self, route: _Route, event: Any, times: SinkTimes) -> None:
        taken = []
        before = perf_counter()
        for attachment, handler in route:
            try:
                handler(event)
            except Exception as error:
                self._fault(attachment, error)
            else:
                attachment.faults_in_a_row = 0
            after = perf_counter()
            # The run's sink copies what you log as files, and that takes as long as it is large.
            if not attachment.is_the_runs or times is not self._times["artifacts"]:
                taken.append((attachment.sink, after - before))
            before = after
        times.note(taken, before)

    def _fault(self, attachment: _Attachment, error: Exception) -> None:
        attachment.faults += 1
        attachment.faults_in_a_row += 1
        if attachment.faults == 1:
            logger.error(
                "sink %r failed. Its further errors are only counted",
                attachment.sink,
                exc_info=error,
                extra={"trackside_sink": attachment.sink},
            )
        if attachment.faults_in_a_row >= FAULTS_BEFORE_DETACH and not attachment.stays:
            self.detach(attachment.sink)
            logger.error(
                "sink %r was detached after %d errors in a row",
                attachment.sink,
                attachment.faults_in_a_row,
                extra={"trackside_sink": attachment.sink, "trackside_faults": attachment.faults},
            )

    def _refuse(self, event: object) -> None:
        logger.warning(
            "%s is not an event. Emit a MetricsSample, ConfigEvent, LifecycleEvent or one of the events in "
            "trackside.artifact_events",
            type(event).__name__,
        )

    def continue_inherited(self) -> bool:
        """Whether this forked child continues its parent's run, from now on. Checked once."""
        heir, self._heir = self._heir, None
        return heir is not None and heir()

    def _report_silence(self) -> None:
        self._silent_reported = True
        from trackside.rank import get_rank

        if get_rank() != 0:
            return
        from trackside.event_bus.children import warn_of_child

        if not warn_of_child(self._parents_journal):
            logger.warning(
                "something was logged, but no run is started and no sink attached: call trackside.start()"
            )


default_bus: Bus = Bus()
"""The bus of ``trackside.log``, ``trackside.emit`` and ``trackside.bus``."""


def _bus_of_another_process(name: str, is_default: bool) -> Bus:
    return default_bus if is_default else Bus(name)


def handlers_of(sink: Any) -> dict[str, Callable[[Any], Any]]:
    """Return the methods of a sink by signal: ``metrics``, ``config``, ``lifecycle``, ``artifacts``.

    Raises ``TypeError`` for anything that is not a sink.
    """
    found = {name: getattr(sink, method, None) for name, method in _HANDLERS.items()}
    if isinstance(sink, type):  # forgotten parentheses: only its class methods could be called
        found = {name: handler for name, handler in found.items() if isinstance(handler, MethodType)}
    handlers = {name: handler for name, handler in found.items() if callable(handler)}
    if not handlers and callable(sink) and not isinstance(sink, type):
        handlers = {"metrics": sink}
    if not handlers:
        advice = f". Attach an object of the class: {sink.__name__}(...)" if isinstance(sink, type) else ""
        raise TypeError(
            f"{sink!r} is not a sink: it has no method on_metrics, on_config, on_lifecycle or on_artifact, "
            f"and is no function of one argument{advice}"
        )
    for handler in handlers.values():
        refuse_coroutine(handler)
    return handlers


def _same(one: Any, other: Any) -> bool:
    """Whether both are one sink. Bound methods are compared by value, because each access makes a new one."""
    return one is other or (isinstance(one, MethodType) and isinstance(other, MethodType) and one == other)
