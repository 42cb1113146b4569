"""Random batches: duplicates, steps out of order, NaN and infinities, and what MLflow refuses."""

from __future__ import annotations

import mlflow
from hypothesis import strategies as st
from mlflow.entities import Metric, Param, RunTag
from packaging.version import Version

from tests.bulk_store.pair import Batch

NAN = float("nan")
INF = float("inf")

KEYS = st.sampled_from(["loss", "train/loss", "val loss", "é.1", "a-b_c", "with:colon"])
OLD = Version(mlflow.__version__) < Version("3.17")
"""Earlier MLflow refuses a NaN that is there already, and an infinity beside the largest double."""

VALUES = st.sampled_from([0.0, -0.0, 1.0, 1, NAN, INF, -INF, 1.7976931348623157e308, 5e-324]) | st.floats()
if OLD:
    VALUES = st.sampled_from([0.0, -0.0, 1.0, 1]) | st.floats(-1e9, 1e9)
SMALL = st.integers(0, 3)
STEPS = st.integers(-2, 3) | st.sampled_from([2**62, -(2**63)])

BAD_KEYS = st.sampled_from(["", "../up", "/root", "a//b", "bad#name", "line\nbreak", "x" * 251, None, 7, "."])
BAD_VALUES = st.sampled_from([None, True, "text", 10**400, 1.5 + 2j])
BAD_NUMBERS = st.sampled_from([-1, "0", None, 2**63])

metrics = st.builds(Metric, KEYS, VALUES, SMALL, STEPS)
bad_metrics = (
    st.builds(Metric, BAD_KEYS, VALUES, SMALL, STEPS)
    | st.builds(Metric, KEYS, BAD_VALUES, SMALL, STEPS)
    | st.builds(Metric, KEYS, VALUES, BAD_NUMBERS, STEPS)
    | st.builds(Metric, KEYS, VALUES, SMALL, st.sampled_from(["1", None, 2**63]))
)
params = st.builds(Param, st.sampled_from(["lr", "depth", "a/b"]), st.sampled_from(["1", "2"]))
bad_params = st.builds(Param, BAD_KEYS, st.just("1")) | st.builds(Param, st.just("long"), st.just("x" * 6001))
tags = st.builds(RunTag, st.sampled_from(["team", "mlflow.note.content"]), st.sampled_from(["a", "b"]))
tags |= st.builds(RunTag, st.just("mlflow.runName"), st.sampled_from(["one", "two"]))
bad_tags = st.builds(RunTag, BAD_KEYS, st.just("v")) | st.builds(RunTag, st.just("long"), st.just("x" * 8001))


def some(good: st.SearchStrategy, bad: st.SearchStrategy, size: int) -> st.SearchStrategy:
    """Lists of good ones; one in some is bad."""
    plain = st.lists(good, max_size=size)
    spoilt = st.tuples(plain, bad, plain).map(lambda parts: [*parts[0], parts[1], *parts[2]])
    return st.integers(0, 7).flatmap(lambda number: spoilt if number == 0 else plain)


def distinct(items: list) -> list:
    """The last of each key."""
    return list({item.key: item for item in items}.values())


batches = st.builds(
    Batch,
    st.lists(metrics, min_size=1, max_size=12) | some(metrics, bad_metrics, 12),
    st.just([]) | some(params, bad_params, 3).map(distinct) | some(params, bad_params, 3),
    st.just([]) | some(tags, bad_tags, 3),
)
