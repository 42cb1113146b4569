"""Find a sink that the training loop waits for, by timing a few emits of many.

Timing every emit would cost each one two clock readings for each sink. Instead the bus counts down, and
times only every 64th emit (every fourth at first, so that a sink which takes seconds is found soon). The
median over several of them decides, so one hiccup of the machine does not count.
"""

from __future__ import annotations

import logging
import threading
from statistics import median
from typing import Any

from trackside.system.once import Once

logger = logging.getLogger("trackside.event_bus")

SLOW_SECONDS = 200e-6
"""A sink is slow if an event takes it longer than this ..."""

SLOW_SHARE = 0.01
"""... and more than this share of the time from one emit to the next. A slow loop does not notice."""

SAMPLES = 8
"""Timed emits that are judged together."""

_EARLY, _LATER = 4, 64
"""One emit in so many is timed, at first and later."""
_EARLY_TIMES = 16

Times = list[tuple[Any, float]]
"""The sinks of one emit, in calling order, and the seconds each took."""


class _Window:
    """The emits that are judged together."""

    def __init__(self) -> None:
        self.timed: list[Times] = []
        self.begun: float | None = None
        """When the first of them ended."""
        self.emits = 0
        """How many emits have come since."""


class SinkTimes:
    """Chooses the emits to time, and judges their times."""

    __slots__ = ("_early", "_interval", "_noting", "_reported", "_window", "left")

    left: int
    """The bus counts this down with each emit, and times the one at zero. Threads may miscount it."""

    def __init__(self) -> None:
        self._noting = threading.Lock()
        self._reported = Once()
        self.restart()

    def restart(self) -> None:
        """Start again, because the sinks have changed."""
        self._window = _Window()
        self._early = _EARLY_TIMES
        self.left = self._interval = _EARLY

    def note(self, times: Times, now: float) -> None:
        """Keep the times of one emit. ``now`` is in seconds of any clock."""
        emits = self._interval
        self._early -= 1
        self.left = self._interval = _EARLY if self._early > 0 else _LATER
        # Never wait: another thread that emits at this moment has a sample as good as ours.
        if not self._noting.acquire(blocking=False):
            return
        try:
            window = self._window  # restart() puts another in its place, whole
            window.timed.append(times)
            if window.begun is None:
                window.begun = now
                return
            window.emits += emits
            if len(window.timed) == SAMPLES:
                self._judge(window.timed, (now - window.begun) / window.emits)
                self._window = _Window()
        finally:
            self._noting.release()

    def _judge(self, timed: list[Times], period: float) -> None:
        """Report the slow ones. ``period`` is the time from one emit to the next."""
        by_sink: dict[int, list[float]] = {}
        sinks: dict[int, Any] = {}
        for times in timed:
            for sink, seconds in times:
                by_sink.setdefault(id(sink), []).append(seconds)
                sinks[id(sink)] = sink
        together = sum(map(sum, by_sink.values()))
        for key, taken in by_sink.items():
            usual = median(taken)
            if usual > SLOW_SECONDS and usual > SLOW_SHARE * period and self._reported.is_first(key):
                logger.warning(
                    "sink %r is slow: it takes %.2g ms an event, %.0f %% of what all sinks take and %.0f %% "
                    "of the time from one event to the next. The training loop waits for it (logged once)",
                    sinks[key],
                    usual * 1e3,
                    100 * sum(taken) / together,
                    100 * usual / max(period, usual),
                    extra={"trackside_sink": sinks[key]},
                )
