"""A function called with each value of one metric."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.coerce.floats import to_float
from trackside.sinks.values import named_values

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.events import MetricsSample

_MISSING = object()


class CallbackSink:
    """Calls ``function(value, step)`` when the metric arrives, in the training loop.

    ``metric`` is its delivered name, ``val/loss``. ``value`` is a float, and ``step`` is as you logged it.
    The bus reports and counts what the function raises. It does not reach your training.
    """

    def __init__(self, metric: str, function: Callable[[float, Any], object]) -> None:
        self.metric = metric
        self.function = function

    def __repr__(self) -> str:
        return f"CallbackSink({self.metric!r}, {self.function!r})"

    def on_metrics(self, sample: MetricsSample) -> None:
        """Call the function, if the metric is in the sample."""
        value = named_values(sample).get(self.metric, _MISSING)
        if value is not _MISSING:
            self.function(to_float(value), sample.step)
