"""Proof that a run has the metrics that its server acknowledged.

MLflow answers ``log-batch`` with ``{}``. A gateway in maintenance, a mock or a filter may answer the same. So
the last point of each metric is kept here, and looked up in the run before a segment of the journal is
deleted, and before the run's end is written. MLflow shows of each
metric the point with the highest step, then the latest time (``_update_latest_metrics_if_necessary`` in
``mlflow/store/tracking/sqlalchemy_store.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.bulk_store.points import Point

ROUNDING_MS = 1000
"""A server may round times to seconds. A point that is older by less still proves its step."""

SHOWN_WHOLE = 1000
"""Some servers leave out metrics of a run that has so many. Then a missing one proves nothing."""


class LastPoints:
    """The step and time of the last point of each metric, since the last :meth:`forget`."""

    def __init__(self) -> None:
        self._last: dict[str, tuple[int, int]] = {}

    def __bool__(self) -> bool:
        return bool(self._last)

    def note(self, points: Sequence[Point]) -> None:
        """The server has acknowledged ``points``."""
        last = self._last
        for key, _value, timestamp, step in points:
            found = last.get(key)
            if found is None or found < (step, timestamp):
                last[key] = (step, timestamp)

    def forget(self) -> None:
        """Start over, because what was noted is proven, or will be sent again."""
        self._last = {}

    def missing_in(self, run: Any) -> list[str]:
        """The metrics whose last point ``run``, an MLflow run just read, does not show."""
        shown = {metric.key: (metric.step, metric.timestamp) for metric in run.to_proto().data.metrics}
        whole = len(shown) < SHOWN_WHOLE
        # MySQL's usual collations take "Loss" and "loss" for one name, and show one of them.
        alike = {key.casefold(): point for key, point in shown.items()}
        return [
            key
            for key, last in self._last.items()
            if _is_missing(shown.get(key) or alike.get(key.casefold()), last, whole=whole)
        ]


def _is_missing(shown: tuple[int, int] | None, last: tuple[int, int], *, whole: bool) -> bool:
    if shown is None:
        return whole
    step, timestamp = last
    return shown < (step, timestamp - ROUNDING_MS)
