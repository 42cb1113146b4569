"""MLflow's metrics as samples: those of one step and moment are one sample.

Invariant: only what is certain to be taken becomes a sample. MLflow's own store gets everything else, so that
it raises what it raises without us, or stores what we don't know.
"""

from __future__ import annotations

import posixpath
import re
from typing import TYPE_CHECKING, Any, TypeAlias

from trackside.events import LinkedSample, MetricLink, MetricsSample

if TYPE_CHECKING:
    from collections.abc import Iterable

_Group: TypeAlias = "tuple[int, int, MetricLink | None, dict[str, float]]"
"""Step, time in ms and link of some metrics, and these."""

_LATEST = 1 << 62
_CHARACTERS = re.compile(r"[\w\-./ :]+")
"""``_VALID_PARAM_AND_METRIC_NAMES`` in ``mlflow/utils/validation.py``."""

_LONGEST_NAME = 250
_MOST_NAMES = 100_000
_plain_names: set[str] = set()


def samples_of(metrics: Iterable[Any]) -> list[MetricsSample] | None:
    """The samples that ``metrics`` make, or None if one of them is for MLflow's own store to judge."""
    groups: list[_Group] = []
    values: dict[str, float] = {}
    step = stamp = model = dataset = None
    for metric in metrics:
        key, value = metric.key, metric.value
        if type(value) is not float or (key not in _plain_names and not is_plain_name(key)):
            return None
        if (
            metric.step != step
            or metric.timestamp != stamp
            or metric.model_id != model
            or metric.dataset_name != dataset
            or dataset is not None
            or key in values
        ):
            step, stamp = metric.step, metric.timestamp
            model, dataset = metric.model_id, metric.dataset_name
            if type(step) is not int or type(stamp) is not int:
                return None
            if not (-_LATEST < step < _LATEST and 0 <= stamp < _LATEST):
                return None
            values = {}
            groups.append((step, stamp, _link_of(metric), values))
        values[key] = value
    return [_sample(*group) for group in groups]


def is_plain_name(key: Any) -> bool:
    """Whether every MLflow takes ``key`` as the name of a metric, a param or a tag."""
    if type(key) is not str or len(key) > _LONGEST_NAME or not _CHARACTERS.fullmatch(key):
        return False
    if key[0] in "/." or posixpath.normpath(key) != key:  # MLflow takes no name that is another path's
        return False
    if len(_plain_names) < _MOST_NAMES:
        _plain_names.add(key)
    return True


def _link_of(metric: Any) -> MetricLink | None:
    link = MetricLink(metric.model_id, metric.dataset_name, metric.dataset_digest)
    return None if link == MetricLink() else link


def _sample(step: int, stamp: int, link: MetricLink | None, values: dict[str, float]) -> MetricsSample:
    if link is None:
        return MetricsSample(step, None, values, None, stamp)
    return LinkedSample(step, metrics=values, timestamp_ms=stamp, link=link)
