"""Histograms: percentiles as metrics, and edges and counts in the record. The shipper draws the picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.encoding.histograms import HISTOGRAM
from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord, MetricsRecord
from trackside.sinks.artifacts.distributions import (
    LIMIT,
    PERCENTILES,
    details_of,
    distribution_of,
    percentile,
)
from trackside.sinks.artifacts.places import key_at

if TYPE_CHECKING:
    from trackside.artifact_events import HistogramEvent
    from trackside.sinks.artifacts.distributions import Distribution
    from trackside.sinks.artifacts.keeping import Keeping


def histogram_record(event: HistogramEvent, keeping: Keeping) -> ArtifactRecord:
    """Keep the distribution. Raises :class:`ArtifactError` for what is no numbers."""
    place = key_at(event.key, event.step, keeping)
    found = distribution_of(event.values)
    if found.is_sample:
        keeping.tell(
            "a histogram of many numbers",
            f"is made of a sample of up to {LIMIT:,} of them, evenly spread. Small ones are whole",
        )
    keeping.add_metrics(
        MetricsRecord(0, event.timestamp_ms, place.step or 0, None, place.name, metrics_of(found))
    )
    if len(found.ordered) == 0:
        raise ArtifactError(
            f"none of the numbers is finite: {found.nan} NaN and {found.infinite} infinite ones. "
            "They are counted as metrics"
        )
    return ArtifactRecord(
        0,
        event.timestamp_ms,
        "histogram",
        place.name,
        place.step,
        form=HISTOGRAM,
        details=details_of(found),
    )


def metrics_of(found: Distribution) -> dict[str, float]:
    """``min``, ``p05`` to ``p95`` and ``max``, and how many were ``nan`` and ``inf`` if there are any."""
    metrics: dict[str, float] = {}
    if len(found.ordered):
        metrics["min"] = float(found.ordered[0])
        for percent in PERCENTILES:
            metrics[f"p{percent:02}"] = percentile(found.ordered, percent)
        metrics["max"] = float(found.ordered[-1])
    if found.nan:
        metrics["nan"] = float(found.nan)
    if found.infinite:
        metrics["inf"] = float(found.infinite)
    return metrics
