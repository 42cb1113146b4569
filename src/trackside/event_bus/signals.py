"""The blinker signals of the bus.

Invariant: a receiver that raises never reaches the emitter or the other receivers. Its first error is logged
with the traceback.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from blinker import ANY, NamedSignal, Namespace

from trackside.event_bus.feedback import Feedback
from trackside.system.once import Once

logger = logging.getLogger("trackside.event_bus")

_F = TypeVar("_F", bound=Callable[..., Any])


class EventSignal(NamedSignal):
    """A blinker signal, with three differences.

    A receiver's error stays with that receiver. Coroutine functions are refused when you connect them,
    instead of failing at every send. A receiver that emits does not receive its own events.
    """

    def __init__(self, name: str, doc: str | None = None) -> None:
        self._muted = False
        self.on_change: Callable[[], None] = lambda: None
        """Called after a receiver was connected or disconnected, and after the signal was muted."""
        super().__init__(name, doc)
        self.feedback: Feedback = Feedback()
        self.dispatcher: Callable[..., Any] | None = None
        """The receiver that calls the sinks, each guarded on its own."""

    def connect(self, receiver: _F, sender: Any = ANY, weak: bool = True) -> _F:
        """As :meth:`blinker.Signal.connect`. Raises ``TypeError`` for a coroutine function."""
        refuse_coroutine(receiver)
        try:
            return super().connect(receiver, sender, weak)
        finally:
            self.on_change()

    def disconnect(self, receiver: Callable[..., Any], sender: Any = ANY) -> None:
        """As :meth:`blinker.Signal.disconnect`."""
        try:
            super().disconnect(receiver, sender)
        finally:
            self.on_change()

    @property
    def is_muted(self) -> bool:
        """As in :class:`blinker.Signal`: whether sending calls no receiver."""
        return self._muted

    @is_muted.setter
    def is_muted(self, muted: bool) -> None:
        self._muted = muted
        self.on_change()

    def send(self, sender: Any = None, /, **kwargs: Any) -> list[tuple[Callable[..., Any], Any]]:
        """Call every receiver. Return ``(receiver, result)`` for those that did not raise."""
        results: list[tuple[Callable[..., Any], Any]] = []
        if self.is_muted:
            return results
        for receiver in self.receivers_for(sender):
            try:
                if receiver is self.dispatcher:
                    results.append((receiver, receiver(sender, **kwargs)))
                else:
                    answer = self.feedback.run(receiver, _label(receiver), receiver, sender, **kwargs)
                    results.append((receiver, answer))
            except Exception as error:  # one receiver's fault must not reach the training loop
                _report_receiver(self, receiver, error)
        return results


class EventNamespace(Namespace):
    """A blinker namespace that makes :class:`EventSignal` objects."""

    def signal(self, name: str, doc: str | None = None) -> EventSignal:
        """Return the signal of that name, made on first use."""
        if name not in self:
            self[name] = EventSignal(name, doc)
        found = self[name]
        assert isinstance(found, EventSignal)  # noqa: S101 - narrows the type: nothing else is stored
        return found


def refuse_coroutine(function: Any) -> None:
    """Raise ``TypeError`` if ``function`` is a coroutine function."""
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - what is called, not whether it can be
    ):
        raise TypeError(f"{function!r} is a coroutine function. Connect a plain function that schedules it")


def _label(receiver: Callable[..., Any]) -> str:
    return getattr(receiver, "__qualname__", None) or type(receiver).__qualname__


_failed = Once()


def _report_receiver(signal: EventSignal, receiver: Callable[..., Any], error: Exception) -> None:
    """Log a plain receiver's error, with its traceback, the first time it happens."""
    label = _label(receiver)
    if _failed.is_first((signal.name, label)):
        logger.error(
            "receiver %s of signal %r failed. Its further errors are not logged",
            label,
            signal.name,
            exc_info=error,
        )
