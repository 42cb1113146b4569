"""Sinks that emit while they are called must not receive their own events without end.

A sink may log a value that it computes from a sample, such as a ratio of two losses. That event goes to the
bus while the sink still runs, so it would be called with its own event, and log again.

Invariants:

* Handlers nest at most :data:`DEPTH` deep on one thread, so that a handler which answers every event with
  another one comes to an end. One that was cut off there never runs inside itself again.
* The run's own sinks are not guarded, so everything emitted is kept. They emit nothing, and pay nothing.
"""

from __future__ import annotations

import logging
from threading import get_ident
from typing import TYPE_CHECKING, Any

from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger("trackside.event_bus")

DEPTH = 3
"""Handlers that may run on one thread, each because of an event of the one before."""


class Feedback:
    """The handlers of one bus that are running, by thread."""

    def __init__(self) -> None:
        self._at_work: dict[int, list[object]] = {}
        self._cut_off = Once()

    def guard(self, handler: Callable[[Any], Any], name: str) -> Callable[[Any], Any]:
        """Return ``handler``, skipped when its own events would call it again and again."""
        me = object()

        def call(event: Any) -> Any:
            return self.run(me, name, handler, event)

        return call

    def run(self, who: object, name: str, handler: Callable[..., Any], /, *given: Any, **more: Any) -> Any:
        """Call ``handler`` for ``who``, unless that would be an endless loop on this thread."""
        thread = get_ident()
        callers = self._at_work.setdefault(thread, [])
        depth = len(callers)
        again = any(who is other for other in callers)
        if depth >= DEPTH or (again and name in self._cut_off):
            if again:
                self._cut_off_from_now_on(name)
            return None
        try:
            callers.append(who)
            return handler(*given, **more)
        finally:
            del callers[depth:]
            if not depth:
                self._at_work.pop(thread, None)

    def _cut_off_from_now_on(self, name: str) -> None:
        if self._cut_off.is_first(name):
            logger.info(
                "%s logs something each time it is called. All of it is kept, but from now on it is not "
                "called with what it logs itself (logged once)",
                name,
            )
