"""A sink behind a transform: it receives what was declared and no more."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.coerce.metrics import to_float_metrics
from trackside.coerce.steps import read_step
from trackside.event_bus.bus import handlers_of
from trackside.events import ArtifactEvent, ConfigEvent, LifecycleEvent, MetricsSample
from trackside.rank import get_rank
from trackside.sinks.values import named_values
from trackside.transform import Transform, Transformed, Transformer, make_transform

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trackside.protocols import AnySink
    from trackside.transform import TransformOptions

_ENDS = {"crashed", "exited", "finished"}


class TransformedSink:
    """Gives ``sink`` the samples after ``transform`` (see :class:`trackside.transform.Transform`).

    The sink gets samples without prefix and epoch: the names are whole, and ``epoch`` is one of the
    metrics. Open windows are given out at the end of the run, or of the process. On ranks that are not
    asked for it does nothing.

    Raises ``TypeError`` for anything but a sink, and :class:`~trackside.errors.ConfigurationError` for a
    transform that makes no sense.
    """

    def __init__(self, sink: AnySink, transform: Transform | TransformOptions | Mapping[str, Any]) -> None:
        self.sink = sink
        self._handlers = handlers_of(sink)
        self._transformer = Transformer(make_transform(transform) or Transform())
        self._is_wanted: bool | None = None
        self._last_step = -1

    def __repr__(self) -> str:
        return f"TransformedSink({self.sink!r}, {self.transform!r})"

    @property
    def transform(self) -> Transform:
        """What was declared."""
        return self._transformer.transform

    @property
    def stays_attached(self) -> bool:
        """Whether the bus keeps the sink, whatever it raises."""
        return getattr(self.sink, "stays_attached", False) is True

    @property
    def merged(self) -> int:
        """Points that were excluded, or became part of another one."""
        return self._transformer.merged

    def on_metrics(self, sample: MetricsSample) -> None:
        """Transform a sample, and give out what is ready."""
        if not self._wanted() or "metrics" not in self._handlers:
            return
        step = sample.step if type(sample.step) is int else self._step(sample.step)
        self._last_step = step
        named = named_values(sample)
        if self.transform.has_windows:  # what waits has to be a number, read before it can change
            kept = {name: value for name, value in named.items() if self._transformer.keeps(name)}
            named = {**dict.fromkeys(named.keys() - kept.keys(), 0.0), **to_float_metrics(kept)}
        self._give(self._transformer.feed(step, sample.timestamp_ms, named))

    def on_config(self, event: ConfigEvent) -> None:
        """Pass a configuration on."""
        self._pass("config", event)

    def on_artifact(self, event: ArtifactEvent) -> None:
        """Pass a file, a picture or a table on."""
        self._pass("artifacts", event)

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        """Pass it on, an end behind the last metrics."""
        if event.kind in _ENDS:
            self._flush()
        self._pass("lifecycle", event)

    def close(self) -> None:
        """Give out what is left, and close the sink."""
        if not self._wanted():
            return
        try:
            self._flush()
        finally:
            close = getattr(self.sink, "close", None)
            if close is not None:
                close()

    def _wanted(self) -> bool:
        if self._is_wanted is None:  # asked late: the rank may not be known before the first sample
            self._is_wanted = self.transform.wants_rank(get_rank())
        return self._is_wanted

    def _pass(self, signal: str, event: Any) -> None:
        handler = self._handlers.get(signal)
        if handler is not None and self._wanted():
            handler(event)

    def _flush(self) -> None:
        if self._wanted():
            self._give(self._transformer.flush())

    def _give(self, ready: list[Transformed]) -> None:
        """Deliver all of it. An error is raised after the rest, for the bus to report."""
        failure: Exception | None = None
        for step, timestamp_ms, metrics in ready:
            try:
                self._handlers["metrics"](MetricsSample(step, None, metrics, None, timestamp_ms))
            except Exception as error:
                failure = failure or error
        if failure is not None:
            raise failure

    def _step(self, step: Any) -> int:
        number = read_step(step)
        return self._last_step + 1 if number is None else number
