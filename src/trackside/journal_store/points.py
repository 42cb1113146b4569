"""MLflow's metrics as samples: those of one step and moment are one sample.

Invariant: only what is certain to be taken becomes a sample. MLflow's own store gets everything else, so that
it raises what it raises without us, or stores what we don't know.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any

from trackside.events import MetricsSample

if TYPE_CHECKING:
    from collections.abc import Iterable

_LATEST = 1 << 62
_CHARACTERS = re.compile(r"[\w\-./ :]+")
"""``_VALID_PARAM_AND_METRIC_NAMES`` in ``mlflow/utils/validation.py``."""

_LONGEST_NAME = 250
_MOST_NAMES = 100_000
_plain_names: set[str] = set()


def samples_of(metrics: Iterable[Any]) -> list[MetricsSample] | None:
    """The samples that ``metrics`` make, or None if one of them is for MLflow's own store to judge."""
    samples: list[MetricsSample] = []
    values: dict[str, float] = {}
    step = stamp = None
    for metric in metrics:
        key, value = metric.key, metric.value
        if type(value) is not float or (key not in _plain_names and not _is_plain_name(key)):
            return None
        if metric.step != step or metric.timestamp != stamp or key in values:
            step, stamp = metric.step, metric.timestamp
            if type(step) is not int or type(stamp) is not int:
                return None
            if not (-_LATEST < step < _LATEST and 0 <= stamp < _LATEST):
                return None
            values = {}
            samples.append(MetricsSample(step, None, values, None, stamp))
        values[key] = value
    return samples


def is_linked(metric: Any) -> bool:
    """Whether ``metric`` belongs to a model or a dataset, too."""
    return bool(metric.model_id or metric.dataset_name or metric.dataset_digest)


def _is_plain_name(key: Any) -> bool:
    if type(key) is not str or len(key) > _LONGEST_NAME or not _CHARACTERS.fullmatch(key):
        return False
    if key[0] in "/." or posixpath.normpath(key) != key:  # MLflow takes no name that is another path's
        return False
    if len(_plain_names) < _MOST_NAMES:
        _plain_names.add(key)
    return True
