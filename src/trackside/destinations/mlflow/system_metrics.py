"""The machine's load, sampled beside the training by MLflow's own monitors and kept until it is sent.

MLflow's monitor stops at the first error of the server, and asks it for the run before every sample. So only
what it measures with is used here. The samples are sent with the run's metrics, and retried like those. They
are not part of the journal: a shipper that is killed loses those it has not sent.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.destinations.mlflow.importing import import_mlflow
from trackside.errors import RejectedError
from trackside.events import now_ms
from trackside.names import MAX_METRICS_PER_BATCH, chunks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.destinations.mlflow.connection import Connection

logger = logging.getLogger("trackside.destinations")

LOAD_SAMPLES = 50
"""Samples sent at a time: some ten numbers each, more with GPUs."""

PREFIX = "system/"
"""As MLflow's ``SystemMetricsMonitor`` has it: its UI shows these on a page of their own."""

MAX_KEPT = 10_000
"""Samples kept while the server is away: a day, at one every 10 s."""


class LoadSample(NamedTuple):
    """One look at the machine."""

    timestamp_ms: int
    step: int
    metrics: dict[str, float]


class SystemMetrics:
    """Looks at the machine by MLflow's ``monitors`` every ``interval`` seconds, on a thread of the shipper's.

    The step counts intervals since ``since_ms``, the run's start. A restarted shipper or a resumed training
    continues the count.
    """

    def __init__(self, monitors: Sequence[Any], *, interval: float, since_ms: int) -> None:
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
        """Stop sampling."""
        self._stop.set()

    def waiting(self, limit: int, *, until_ms: int | None = None) -> list[LoadSample]:
        """The oldest ``limit`` samples that were not :meth:`sent`, up to ``until_ms``, the run's end."""
        kept = list(self._kept)[:limit]
        return [sample for sample in kept if until_ms is None or sample.timestamp_ms <= until_ms]

    def sent(self, samples: Sequence[LoadSample]) -> None:
        """Forget these."""
        gone = set(map(id, samples))
        while self._kept and id(self._kept[0]) in gone:
            self._kept.popleft()

    def sample(self) -> LoadSample:
        """Look at the machine now. A monitor that fails is left out."""
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


class SystemMetricsSender:
    """Samples the machine's load every ``interval`` seconds, and sends it to the run. None: not at all.

    ``valid`` makes names that MLflow takes. ``notice`` tells the user something.
    """

    def __init__(
        self,
        connection: Connection,
        interval: float | None,
        *,
        valid: Callable[[str], str],
        notice: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._interval = interval
        self._valid = valid
        self._notice = notice
        self._load: SystemMetrics | None = None

    def start(self) -> None:
        """Begin to sample, unless that was done."""
        if self._interval is None or self._load is not None:
            return
        try:
            monitors = _make_monitors(self._connection.run_id, self._connection.uri)
        except Exception as error:
            self._notice(f"no system metrics: MLflow's monitor can't be made ({error})")
            self._interval = None
            return
        started = self._connection.get_run().info.start_time
        load = SystemMetrics(monitors, interval=self._interval, since_ms=started or now_ms())
        load.start()  # where no thread can be started, the next call tries again
        self._load = load

    def send(self, *, until_ms: int | None = None) -> None:
        """Send what waits, up to ``until_ms``."""
        while self._load is not None and (samples := self._load.waiting(LOAD_SAMPLES, until_ms=until_ms)):
            points = [
                (self._valid(name), value, sample.timestamp_ms, sample.step)
                for sample in samples
                for name, value in sample.metrics.items()
            ]
            try:
                for chunk in chunks(points, MAX_METRICS_PER_BATCH):
                    self._connection.log_points(chunk)
            except RejectedError as error:
                logger.warning("system metrics were rejected: %s", error)
            self._load.sent(samples)

    def stop(self) -> None:
        """Stop sampling."""
        if self._load is not None:
            self._load.stop()
            self._load = None


def _make_monitors(run_id: str, tracking_uri: str) -> list[Any]:
    """MLflow's monitors. It knows which GPUs there are, and how to ask them."""
    import_mlflow()
    from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

    make: Any = SystemMetricsMonitor
    try:
        return list(make(run_id, tracking_uri=tracking_uri).monitors)
    except TypeError:  # MLflow 3.6 has no such argument
        return list(make(run_id).monitors)
