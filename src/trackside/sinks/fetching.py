"""Samples with values on an accelerator: which those are, and how they get into the journal.

Such a sample is kept once its values have arrived (:mod:`trackside.sinks.accelerator`). A training loop logs
the same names again and again. So a sample with the names of the one before is looked at in few calls, and is
journaled under its layout like any other.

Invariants:

* A sample that is refused here has changed nothing and counted nothing.
* Nothing here keeps a tensor. It may hold its graph, and the activations of its step.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.coerce.means import element_count, note_mean
from trackside.coerce.steps import STEP_LIMIT
from trackside.events import MetricsSample
from trackside.journal.format import MetricsRecord
from trackside.journal.layouts import MILLISECOND
from trackside.sinks.accelerator import DeviceQueue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trackside.journal.samples import Samples
    from trackside.journal.scoreboard import Scoreboard
    from trackside.sinks.accelerator import Devices

STAMP_LIMIT = 2**63 // MILLISECOND
"""A later time, in the year 2262, does not fit into 64 bits of nanoseconds."""


class _Seen(NamedTuple):
    """The names of a sample: all, those whose values were on an accelerator, and the others."""

    names: list[str]
    later: list[str]
    here: list[str]


class Fetcher:
    """Keeps samples once their values have arrived.

    ``keep(record)`` journals a record, and says whether it was kept as it is. ``lose(record, error)`` counts
    one that could not be. ``warn(subject, text)`` tells the user once.
    """

    def __init__(
        self,
        devices: Devices,
        samples: Samples,
        scoreboard: Scoreboard,
        *,
        keep: Callable[[MetricsRecord], bool],
        lose: Callable[[MetricsRecord, Exception], None],
        warn: Callable[[str, str], None],
    ) -> None:
        self.takes = devices.takes
        self.queue: DeviceQueue | None = None
        """The samples on their way, once there was one."""
        self._devices = devices
        self._samples = samples
        self._scoreboard = scoreboard
        self._keep, self._lose, self._warn = keep, lose, warn
        self._last: _Seen | None = None

    def among(self, metrics: Mapping[Any, Any]) -> dict[str, Any]:
        """Those of ``metrics`` that are fetched later. Names that are not text are read the slow way."""
        later = {key: value for key, value in metrics.items() if type(key) is str and self.takes(value)}
        for key, value in later.items():
            if element_count(value) > 1:
                note_mean(key, value)
        return later

    def fetch(self, record: MetricsRecord, later: Mapping[str, Any], here: Mapping[Any, Any]) -> None:
        """Keep ``record`` once the values of ``later`` have arrived. The names beside them are ``here``."""
        names = [*record.metrics]
        known = len(names) == len(later) + len(here) and type(record) is MetricsRecord
        self._last = _Seen(names, [*later], [*here]) if known else None
        self._add(record, [*later.values()], [*later])

    def fetch_again(self, sample: MetricsSample) -> bool:
        """Keep a sample with the names of the one before. Returns False if it has to take the usual way."""
        step, epoch, last = sample.step, sample.epoch, self._last
        if last is None or type(sample) is not MetricsSample or type(sample.metrics) is not dict:
            return False
        metrics: dict[str, Any] = sample.metrics.copy()  # another thread may be filling it
        if [*metrics] != last.names or type(step) is not int or not -STEP_LIMIT <= step < STEP_LIMIT:
            return False
        values = [metrics[name] for name in last.later]
        numbers = [metrics[name] for name in last.here]
        if epoch is not None:
            numbers.append(epoch)
        if {float, *map(type, numbers)} != {float} or not self._devices.takes_quickly(values):
            return False
        self._samples.last_step = step
        metrics.update(dict.fromkeys(last.later, 0.0))
        self._add(
            MetricsRecord(0, sample.timestamp_ms, step, epoch, sample.prefix, metrics), values, last.later
        )
        return True

    def _add(self, record: MetricsRecord, values: list[Any], names: list[str]) -> None:
        def deliver(numbers: list[float]) -> None:
            record.metrics.update(zip(names, numbers, strict=True))
            try:
                self._keep_under_layout(record)
            except Exception as error:
                self._lose(record, error)

        def lose(reason: str) -> None:
            self._scoreboard.note_dropped(record.points)
            self._warn(f"a sample with values on an accelerator is dropped: {reason};", "such are counted")

        self._open_queue().add(values, record.points, deliver, lose)

    def fetch_array(self, value: Any, deliver: Callable[[Any], None], lose: Callable[[str], None]) -> None:
        """Call ``deliver`` with ``value`` on the host once it has arrived, or ``lose`` with the reason."""
        self._open_queue().add_array(value, deliver, lose)

    def _open_queue(self) -> DeviceQueue:
        self._samples.quiet_until = 0  # further logs look for what has arrived
        if self.queue is None:
            self.queue = DeviceQueue(self._devices, note_points=self._scoreboard.note_on_device)
        return self.queue

    def _keep_under_layout(self, record: MetricsRecord) -> None:
        """Append ``record``, under a layout if its names came before."""
        plain, stamp, samples = type(record) is MetricsRecord, record.timestamp_ms, self._samples
        if plain and type(stamp) is int and -STAMP_LIMIT < stamp < STAMP_LIMIT:
            last_step = samples.last_step  # of a later sample
            kept = samples.log(record.metrics, record.step, record.epoch, record.prefix, stamp * MILLISECOND)
            samples.last_step = last_step
            if kept:
                return
        if self._keep(record) and plain:
            samples.learn(record)
