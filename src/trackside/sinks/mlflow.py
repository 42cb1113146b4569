"""The sink on the way to MLflow. It coerces samples and journals them, and the shipper does the rest.

This is the hot path. A sample of numbers under names that came before is one store into the journal
(:mod:`trackside.journal.samples`), and the bus calls that itself where it can. In any other sample each
metric takes one pass of coercion. The shipper handles prefixes, names and limits. A value that cannot be kept
as it is takes a slower path, and is counted.

Invariants:

* A sample is journaled, or its points are counted as dropped, whatever a value or the journal raises.
* The next check of the shipper depends on neither the time of day nor a sample's timestamp, because a clock
  may be set back, and data may be replayed.
"""

from __future__ import annotations

import contextlib
import logging
import math
from time import monotonic, time_ns
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.coerce.floats import OnDeviceError, to_float
from trackside.coerce.metrics import flat_metrics, to_float_metrics
from trackside.coerce.steps import STEP_LIMIT, is_whole, read_step
from trackside.errors import CoercionError
from trackside.events import LinkedSample, MetricsSample, ParamsEvent
from trackside.journal.format import LinkedMetricsRecord, MetricsRecord
from trackside.journal.layouts import MILLISECOND
from trackside.journal.samples import Samples
from trackside.lifecycle.crash import text_of
from trackside.redaction.redact import redact
from trackside.sinks.artifacts.keeper import ArtifactKeeper
from trackside.sinks.fetching import STAMP_LIMIT, Fetcher
from trackside.sinks.odd_values import brief, encodable_text, milliseconds
from trackside.sinks.texts import TextKeeper
from trackside.sinks.torch_devices import TorchDevices
from trackside.system.clock import steady
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from trackside.event_bus.bus import QuickLog
    from trackside.events import ArtifactEvent, ConfigEvent, LifecycleEvent
    from trackside.journal.writer import JournalWriter
    from trackside.sinks.accelerator import Devices

logger = logging.getLogger("trackside.sinks")

WATCH_EVERY = 5.0
"""Seconds between two checks of the shipper, by a monotonic clock."""

FIRST_WATCH = 1.0
"""Seconds until the first check: by then there may be a run to tell the user of."""

DEVICE_TIMEOUT = 5.0
"""Seconds a run's end waits for numbers that are still on an accelerator."""

_ENDS = {"finished", "finishing", "exited", "crashed"}
_MAX_TEXT = 200


class MLflowSink:
    """Coerces and journals. ``watch`` is called every few seconds, on whichever thread emits then.

    It may return the seconds until the next call, if that should be sooner.

    ``last_step`` gives the last step of a resumed run. It is called once, if the first sample has no step.
    ``held_files_cap``: the bytes on a disk that files which wait may take, or None for as much as they leave.
    """

    stays_attached = emits_nothing = True

    def __init__(
        self,
        journal: JournalWriter,
        *,
        watch: Callable[[], float | None] | None = None,
        last_step: Callable[[], int | None] | None = None,
        devices: Devices | None = None,
        held_files_cap: int | None = None,
    ) -> None:
        self._journal = journal
        # Kept, because making a bound method for each sample costs 2 % of it.
        self._on_drop = self._drop
        self._samples = Samples(journal)
        self._fetcher = Fetcher(
            devices or TorchDevices(),
            self._samples,
            journal.scoreboard,
            keep=self._keep,
            lose=self._lose,
            warn=self._warn,
        )
        self._texts = TextKeeper(journal, warn=self._warn)
        self._artifacts = ArtifactKeeper(
            journal,
            warn=self._warn,
            last_step=lambda: self.last_step,
            cap=held_files_cap,
            fetcher=self._fetcher,
        )
        self._quiet_until = self._samples.quiet_until
        self._watch = watch
        self._next_watch = math.inf
        if watch is not None:
            self._await_next_watch(min(FIRST_WATCH, WATCH_EVERY))
        self._bad_steps = 0
        self._find_last_step = last_step
        self._warned = Once()

    @property
    def last_step(self) -> int | None:
        """The step of the latest sample. None before the first."""
        step = self._samples.last_step
        return None if step == -1 else step

    @property
    def quick_log(self) -> QuickLog | None:
        """What keeps a simple sample in place of :meth:`on_metrics`, or None if that is not ours any more."""
        own = getattr(self.on_metrics, "__func__", None) is MLflowSink.on_metrics
        return self._samples.log if own else None

    def on_metrics(self, sample: MetricsSample) -> None:
        """Keep one sample."""
        stamp, fetcher = sample.timestamp_ms, self._fetcher
        fetched = False
        try:
            if fetcher.queue is not None and fetcher.fetch_again(sample):
                fetched = True
            elif (
                type(stamp) is not int
                or not -STAMP_LIMIT < stamp < STAMP_LIMIT
                or not self._samples.log(
                    sample.metrics, sample.step, sample.epoch, sample.prefix, stamp * MILLISECOND
                )
            ):
                fetched = self._coerce(sample)
        except Exception as error:  # out of memory, or an odd type's own error
            self._lose(sample, error)
            return
        # Half the cost of steady(), which decides: a test library may have frozen this clock.
        if monotonic() >= self._next_watch:
            self._watch_if_due()
        if fetcher.queue is not None and not fetched:
            fetcher.queue.collect()
            self._samples.quiet_until = 0 if fetcher.queue else self._quiet_until

    def _coerce(self, sample: MetricsSample) -> bool:
        """Keep a sample of any kind. Returns whether it has values on an accelerator, which come later."""
        step = sample.step
        if type(step) is not int or not -STEP_LIMIT <= step < STEP_LIMIT:
            step = self._step(step)
        self._samples.last_step = step
        epoch = sample.epoch
        if epoch is not None and type(epoch) is not float:
            epoch = self._epoch(epoch)
        try:
            values = to_float_metrics(sample.metrics, self._on_drop, self._fetcher.takes)
        except OnDeviceError:
            self._fetch(sample, step, epoch)
            return True
        except CoercionError as error:  # not a mapping: the run continues, and so does this sink
            self._drop("(a whole sample)", str(error))
        else:
            record = _record_of(sample, step, epoch, values)
            if self._keep(record) and len(values) == len(sample.metrics) and type(record) is MetricsRecord:
                self._samples.learn(record)
        return False

    def _await_next_watch(self, seconds: float) -> None:
        self._next_watch = steady() + seconds
        now = time_ns()
        self._samples.quiet_from = now
        self._samples.quiet_until = self._quiet_until = now + int(seconds * 1e9)

    def _watch_if_due(self) -> None:
        if self._watch is not None and steady() >= self._next_watch:
            self._await_next_watch(WATCH_EVERY)
            soon = self._watch()
            if soon is not None:
                self._await_next_watch(soon)

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        """At an end, wait briefly for values on an accelerator, because the end record goes behind them.

        Report how many samples had a bad step.
        """
        queue = self._fetcher.queue
        if queue is not None and event.kind in _ENDS and not queue.drain(DEVICE_TIMEOUT):
            queue.give_up(f"the accelerator has not delivered it within {DEVICE_TIMEOUT:g} s of the end")
        if self._bad_steps > 1 and event.kind in _ENDS:
            logger.warning("%d samples had a step that is not a whole number", self._bad_steps)
            self._bad_steps = 0

    def drain(self, timeout: float) -> bool:
        """Wait up to ``timeout`` seconds until nothing is left on an accelerator."""
        queue = self._fetcher.queue
        return queue is None or queue.drain(timeout)

    def on_config(self, event: ConfigEvent) -> None:
        """Keep a configuration, masked, as plain data and flat."""
        if isinstance(event, ParamsEvent):
            self.keep_params(event.config, event.timestamp_ms)
        else:
            self._texts.keep_config(event)

    def on_artifact(self, event: ArtifactEvent) -> None:
        """Keep a file, a picture, a table, a checkpoint or a model."""
        self._artifacts.keep(event)
        if self._fetcher.queue is not None:
            self._fetcher.queue.collect()

    def keep_artifact(self, event: ArtifactEvent) -> str | None:
        """Keep a file that may be deleted right away. Returns why not, and the caller sees to it."""
        return self._artifacts.attempt(event, outlives=True)

    def keep_params(self, params: Mapping[str, str], timestamp_ms: int | None = None) -> bool:
        """Keep params that are no configuration, masked. Returns whether they are in the journal."""
        return self._texts.keep_params(params, timestamp_ms)

    def keep_tags(self, tags: Mapping[str, str], timestamp_ms: int | None = None) -> bool:
        """Keep tags, masked. Returns whether they are in the journal."""
        return self._texts.keep_tags(tags, timestamp_ms)

    def _fetch(self, sample: MetricsSample, step: int, epoch: float | None) -> None:
        """Keep a sample with values on an accelerator, once they have arrived."""
        metrics = dict(flat_metrics(dict(sample.metrics.items()), self._drop))
        later = self._fetcher.among(metrics)
        here = {key: value for key, value in metrics.items() if key not in later}
        read = to_float_metrics(here, self._drop)
        values = {key: read.get(key, 0.0) for key in metrics if key in later or key in read} | read
        record = _record_of(sample, step, epoch, values)
        if later:
            self._fetcher.fetch(record, later, here)
        else:
            self._keep(record)

    def _keep(self, record: MetricsRecord) -> bool:
        """Append ``record``. Returns whether it was kept as it is."""
        prefix = record.prefix
        # Encoding checks no types. A value of a wrong type could be written, and not be read again.
        if type(record.timestamp_ms) is int and (prefix is None or isinstance(prefix, str)):
            with contextlib.suppress(TypeError, ValueError, OverflowError):
                return self._journal.append(record)
        self._journal.append(self._repaired(record))
        return False

    def _lose(self, sample: MetricsSample | MetricsRecord, error: Exception) -> None:
        """Count a sample that could not be kept. Warn once for each kind of error."""
        self._journal.scoreboard.note_dropped(_points_of(sample))
        kind = type(error).__name__
        self._warn("a sample", f"is dropped and counted: {kind}: {text_of(error)[:_MAX_TEXT]}", once_for=kind)

    def _drop(self, key: Any, reason: str) -> None:
        """Count a value that is not a number. Warn once for each key."""
        self._journal.scoreboard.note_dropped(1)
        self._warn(f"metric {key!r}", f"is dropped: {reason}", metric=key)

    def _warn(self, subject: str, text: str, *, once_for: str | None = None, metric: Any = None) -> None:
        if self._warned.is_first(once_for or subject):
            extra = None if metric is None else {"trackside_metric": redact(str(metric))}
            logger.warning("%s (logged once)", redact(f"{subject} {text}"), extra=extra)

    def _step(self, step: Any) -> int:
        """Return the step as an int, or the step after the last one if it has no meaning as an int."""
        number = read_step(step)
        if number is None and self._samples.last_step == -1:
            self._continue_counting()
        taken = self._samples.last_step + 1 if number is None else number
        if step is None:
            self._warn("a sample", f"came without a step and is kept as step {taken}. Pass step= to log()")
        elif number is None:
            self._bad_steps += 1
            self._warn(
                f"the step {brief(step)}",
                f"is not a 64-bit whole number, so its sample is kept as step {taken}. Pass an int",
                once_for="not a step",
            )
        elif not is_whole(step):
            self._bad_steps += 1
            self._warn(
                f"the step {brief(step)}",
                f"is not a whole number and is cut to {taken}, so several samples may share a step. "
                "Pass an int, such as a count of batches, and a fraction of an epoch as epoch=",
                once_for="steps with a fraction",
            )
        return taken

    def _continue_counting(self) -> None:
        """Count on from the last step of a resumed run."""
        find, self._find_last_step = self._find_last_step, None
        found = None if find is None else find()
        if found is not None:
            self._samples.last_step = found

    def _epoch(self, epoch: Any) -> float | None:
        try:
            return to_float(epoch)
        except CoercionError as error:
            self._drop("epoch", str(error))
            return None

    def _repaired(self, record: MetricsRecord) -> MetricsRecord:
        """The record with names and times that can be encoded (lone surrogates, odd types)."""
        self._warn(
            "a sample", "has a name or a time that can't be stored as it is. It is stored as text or as now"
        )
        prefix = record.prefix
        return msgspec.structs.replace(
            record,
            timestamp_ms=milliseconds(record.timestamp_ms),
            prefix=None if prefix is None else encodable_text(prefix),
            metrics={encodable_text(name): value for name, value in record.metrics.items()},
        )


def _record_of(
    sample: MetricsSample, step: int, epoch: float | None, values: dict[str, float]
) -> MetricsRecord:
    if not isinstance(sample, LinkedSample):
        return MetricsRecord(0, sample.timestamp_ms, step, epoch, sample.prefix, values)
    ids = {name: encodable_text(text) for name, text in msgspec.structs.asdict(sample.link).items() if text}
    link = type(sample.link)(**ids)
    return LinkedMetricsRecord(0, sample.timestamp_ms, step, epoch, sample.prefix, values, link)


def _points_of(sample: MetricsSample | MetricsRecord) -> int:
    """How many points are lost with a sample that cannot be read."""
    try:
        return max(1, len(sample.metrics))
    except Exception:
        return 1
