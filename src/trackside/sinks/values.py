"""A sample's values under their delivered names, and the latest value of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.coerce.floats import to_float
from trackside.coerce.metrics import flat_metrics, to_float_metrics
from trackside.errors import CoercionError
from trackside.names import delivered

if TYPE_CHECKING:
    from trackside.events import MetricsSample


def named_values(sample: MetricsSample) -> dict[str, Any]:
    """Return the metrics and ``epoch`` under their delivered names, with values as they were emitted.

    Nested metrics are flattened. The names are those that
    :meth:`trackside.journal.format.MetricsRecord.named_values` gives the destinations.
    Raises :class:`CoercionError` if ``metrics`` is not a mapping.
    """
    try:
        metrics = flat_metrics(sample.metrics)
        items = metrics.items()
    except AttributeError:
        raise CoercionError(f"metrics must be a mapping, not {type(sample.metrics).__name__}") from None
    return delivered(sample.prefix, items, sample.epoch)


class LatestValues:
    """The latest value of every metric, cheap to keep.

    Values on an accelerator are kept as they are and read on demand, because reading one waits for all the
    work queued there. The autograd graph behind them is dropped.
    """

    __slots__ = ("_values", "sample")

    def __init__(self) -> None:
        self._values: dict[str, Any] = {}
        self.sample: MetricsSample | None = None
        """The sample that came last, without its metrics' values being safe to read."""

    def update(self, sample: MetricsSample) -> None:
        """Remember what ``sample`` brings."""
        for name, value in named_values(sample).items():
            self._values[name] = value if type(value) is float else _kept(value)
        self.sample = sample

    def floats(self) -> dict[str, float]:
        """Every metric's latest value, in the order they first came. From any thread."""
        return to_float_metrics(self._values)


def _kept(value: Any) -> Any:
    """``value``, read now if that costs nothing."""
    device = getattr(value, "device", None)
    if device is not None and getattr(device, "type", "cpu") != "cpu":
        return value.detach()
    try:
        return to_float(value)
    except CoercionError:
        return value  # named in a warning when it is looked at
