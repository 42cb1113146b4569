"""The JSON of MLflow's ``log-batch`` for points of metrics. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trackside.bulk_store.points import Point

_LINK = ("model_id", "dataset_name", "dataset_digest")

LOG_BATCH = "/api/2.0/mlflow/runs/log-batch"


def metrics_body(run_id: str, points: Sequence[Point]) -> bytes:
    """The body of a request that logs ``points`` to the run."""
    return msgspec.json.encode({"run_id": run_id, "metrics": [_metric(*point) for point in points]})


def _metric(
    key: str, value: float, timestamp: int, step: int, *link: str | None
) -> Mapping[str, float | str]:
    plain = {"key": key, "value": _json_value(value), "timestamp": timestamp, "step": step}
    return {**plain, **_linked(*link)} if link else plain


def _linked(*link: str | None) -> dict[str, str]:
    return {name: text for name, text in zip(_LINK, link, strict=True) if text is not None}


def _json_value(value: float) -> float | str:
    """NaN and infinity, which JSON lacks, as protocol buffers write them."""
    if math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"  # noqa: PLR0124
