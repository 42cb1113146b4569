"""Proof that a run has the metrics that its server acknowledged.

MLflow answers ``log-batch`` with ``{}``, and nothing in that answer is MLflow's own: a gateway in
maintenance, a mock or a filter may say the same. So the last point of each metric is kept here, and looked
up in the run before the journal lets go of anything, and before the run's end is told. MLflow shows of each
metric the point with the highest step, then the latest time (``_update_latest_metrics_if_necessary`` in
``mlflow/store/tracking/sqlalchemy_store.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.bulk_store.points import Point

ROUNDING_MS = 1000
"""A server may round times to seconds: a point that is older by less proves its step all the same."""

SHOWN_WHOLE = 1000
"""Metrics of a run that shows so many may be left out by some servers: a missing one proves nothing then."""


class LastPoints:
    """The step and time of the last point of each metric, since the last :meth:`forget`.

    Requests in flight at once have no key in common, so :meth:`note` may be called by several threads.
    """

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
        """Begin anew: what was noted is proven, or is to be sent again."""
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
