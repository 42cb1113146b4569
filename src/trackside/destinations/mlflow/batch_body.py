"""The JSON of MLflow's ``log-batch`` for points of metrics. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.bulk_store.points import Point

LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"


def metrics_body(run_id: str, points: Sequence[Point]) -> bytes:
    """The body of a request that logs ``points`` to the run."""
    metrics = [
        {"key": key, "value": _json_value(value), "timestamp": timestamp, "step": step}
        for key, value, timestamp, step in points
    ]
    return msgspec.json.encode({"run_id": run_id, "metrics": metrics})


def _json_value(value: float) -> float | str:
    """NaN and infinity, which JSON lacks, as protocol buffers write them."""
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124
