"""Test code that logs: see what it emits, without MLflow, a shipper or a directory."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trackside.event_bus.bus import default_bus
from trackside.sinks.memory import MemorySink

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trackside.event_bus.bus import Bus

__all__ = ["MemorySink", "capture"]

_MODE = "TRACKSIDE_MODE"


@contextmanager
def capture(bus: Bus | None = None) -> Iterator[MemorySink]:
    """Collect what is emitted in the block, on the default bus or on ``bus``.

    A ``trackside.start()`` inside starts no run (``TRACKSIDE_MODE`` is ``disabled`` for the block), so the
    code under test may be the real thing::

        with trackside.testing.capture() as logged:
            train(steps=3)
        assert logged.metrics("train/loss") == [(0, 25.0), (1, 16.0), (2, 10.24)]
    """
    bus = default_bus if bus is None else bus
    before = os.environ.get(_MODE)
    os.environ[_MODE] = "disabled"
    try:
        with bus.attached(MemorySink()) as sink:
            yield sink
    finally:
        if before is None:
            del os.environ[_MODE]
        else:
            os.environ[_MODE] = before
