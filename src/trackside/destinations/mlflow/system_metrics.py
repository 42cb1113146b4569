"""The machine's load, sampled beside the training by MLflow's own monitors and kept until it is sent.

MLflow's monitor gives up at the first error of the server, and asks it for the run before every sample. So
only what it measures with is used here; the samples go out with the run's metrics, as patiently as those.
They are not part of the journal: a shipper that is killed loses those it had not sent.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, NamedTuple, Protocol

from trackside.events import now_ms

if TYPE_CHECKING:
    from collections.abc import Sequence

logger = logging.getLogger(__name__)

PREFIX = "system/"
"""As MLflow's ``SystemMetricsMonitor`` has it: its UI shows these on a page of their own."""

MAX_KEPT = 10_000
"""Samples kept while the server is away: a day, at one every 10 s."""


class Monitor(Protocol):
    """One of MLflow's, for the processor, the memory, the disk, the network or the GPUs."""

    def collect_metrics(self) -> None:
        """Measure."""

    def aggregate_metrics(self) -> dict[str, float]:
        """What was measured since the last :meth:`clear_metrics`."""

    def clear_metrics(self) -> None:
        """Forget it."""


class LoadSample(NamedTuple):
    """One look at the machine."""

    timestamp_ms: int
    step: int
    metrics: dict[str, float]


class SystemMetrics:
    """Looks at the machine every ``interval`` seconds, on a thread of the shipper's.

    The step counts intervals since ``since_ms``, the run's start, so it goes on where a restarted shipper or
    a resumed training left it.
    """

    def __init__(self, monitors: Sequence[Monitor], *, interval: float, since_ms: int) -> None:
        self._monitors = monitors
        self._interval = interval
        self._since_ms = since_ms
        self._kept: deque[LoadSample] = deque(maxlen=MAX_KEPT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trackside-load", daemon=True)

    def start(self) -> None:
        """Begin to sample."""
        self._thread.start()

    def stop(self) -> None:
        """Sample no more."""
        self._stop.set()

    def waiting(self, limit: int, *, until_ms: int | None = None) -> list[LoadSample]:
        """The oldest ``limit`` samples that were not :meth:`sent`; none after ``until_ms``, the run's end."""
        kept = list(self._kept)[:limit]
        return [sample for sample in kept if until_ms is None or sample.timestamp_ms <= until_ms]

    def sent(self, samples: Sequence[LoadSample]) -> None:
        """Forget these."""
        gone = set(map(id, samples))
        while self._kept and id(self._kept[0]) in gone:
            self._kept.popleft()

    def sample(self) -> LoadSample:
        """Look at the machine now. A monitor that fails says nothing, and the others go on."""
        found: dict[str, float] = {}
        for monitor in self._monitors:
            try:
                monitor.collect_metrics()
                found.update(monitor.aggregate_metrics())
                monitor.clear_metrics()
            except Exception:  # a GPU that has fallen off the bus, for one
                logger.debug("%s failed", type(monitor).__name__, exc_info=True)
        now = now_ms()
        step = int((now - self._since_ms) / 1000 / self._interval)
        return LoadSample(now, step, {f"{PREFIX}{name}": float(value) for name, value in found.items()})

    def _run(self) -> None:
        while not self._stop.wait(self._interval):
            self._kept.append(self.sample())
