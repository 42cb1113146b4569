"""What the tests of hooks share: a bus that listens, and ways to fail."""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from trackside.event_bus.bus import Bus

if TYPE_CHECKING:
    from trackside.events import LifecycleEvent

USR1 = int(signal.SIGUSR1)
BOOM = ValueError("boom")


class Heard:
    """A bus, and the lifecycle events that came out of it."""

    def __init__(self) -> None:
        self.bus = Bus()
        self.events: list[LifecycleEvent] = []
        self.bus.attach(self)

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        self.events.append(event)

    @property
    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def throw(kind: type[BaseException], error: BaseException) -> None:
    """Do with an uncaught exception what the interpreter does."""
    sys.excepthook(kind, error, None)


def raise_boom() -> None:
    """Raise."""
    raise BOOM


def run_in_thread(function: Any) -> None:
    """Run it in a thread, and wait."""
    thread = threading.Thread(target=function)
    thread.start()
    thread.join()
