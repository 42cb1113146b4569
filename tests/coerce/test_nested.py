"""Nested metrics become flat ones, and none of them gets lost or overwrites another."""

from __future__ import annotations

import types
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackside.coerce.nested import flatten_metrics
from trackside.events import MetricsSample
from trackside.sinks import CallbackSink, MemorySink
from trackside.sinks.values import named_values


class Score(NamedTuple):
    precision: float
    recall: float


@dataclass
class Outcome:
    loss: float
    detail: Any = None
    version: ClassVar[int] = 3


class Average:
    """A running mean, as many programs have one: a mapping of its parts, and a number."""

    def __float__(self) -> float:
        return 2.5


@dataclass
class Meter(Average):
    total: float = 5.0


class Angry(dict[str, float]):
    def items(self) -> Any:
        raise RuntimeError("no")


def flat(metrics: Any) -> tuple[dict[Any, Any], dict[str, str]]:
    """The flat metrics, and those dropped with their reasons."""
    dropped: dict[str, str] = {}
    return dict(flatten_metrics(metrics, dropped.__setitem__)), dropped


@pytest.mark.parametrize(
    ("metrics", "expected"),
    [
        ({"eval": {"loss": 1}}, {"eval/loss": 1}),
        ({"a": {"b": {"c": {"d": 1}}}, "e": 2}, {"a/b/c/d": 1, "e": 2}),
        ({"eval": {}, "a": {"b": {}}, "loss": 1}, {"loss": 1}),
        ({"acc": {0: 0.9, 1: 0.8}}, {"acc/0": 0.9, "acc/1": 0.8}),
        ({1: {"a": 2}, 3: 4}, {"1/a": 2, 3: 4}),
        ({"eval/": {"loss": 1}, "b": {"/c": 2}}, {"eval/loss": 1, "b/c": 2}),
        ({"": {"loss": 1}}, {"loss": 1}),
        ({"a": OrderedDict(b=types.MappingProxyType({"c": 1}))}, {"a/b/c": 1}),
        ({"a": Score(0.5, 0.25)}, {"a/precision": 0.5, "a/recall": 0.25}),
        ({"a": Outcome(1.0, {"b": 2})}, {"a/loss": 1.0, "a/detail/b": 2}),
        ({"a": {"text": "no number"}}, {"a/text": "no number"}),
    ],
)
def test_nested_metrics_are_flattened(metrics: Any, expected: dict[Any, Any]) -> None:
    """At any depth, whatever kind of mapping it is, with one slash between two parts."""
    assert flat(metrics) == (expected, {})


def test_what_is_a_number_too_stays_one() -> None:
    """A dataclass with ``__float__`` is read as a number, an array is never unfolded."""
    metrics = {"meter": Meter(), "array": np.ones(2), "list": [1, 2]}
    assert flatten_metrics(metrics, lambda *_: None) is metrics


def test_a_name_that_is_there_twice() -> None:
    """The one written whole is kept, wherever it stands. Of two put together the first. The rest is told."""
    found, dropped = flat({"eval": {"loss": 1}, "eval/loss": 2, "a": {"b/c": 3}, "a/b": {"c": 4}})
    assert found == {"eval/loss": 2, "a/b/c": 3}
    assert dropped.keys() == {"eval/loss", "a/b/c"}
    assert "another metric is called 'a/b/c' too. Rename one of them" in dropped["a/b/c"]


def test_what_cannot_be_unfolded_is_told() -> None:
    """A dict that holds itself, and one whose items() raises. The rest is kept."""
    loop: dict[str, Any] = {"loss": 1}
    loop["again"] = loop
    found, dropped = flat({"loop": loop, "angry": Angry(), "ok": 1})
    assert found["ok"] == 1
    assert found["loop/loss"] == 1
    assert dropped["angry"] == "its items cannot be read: RuntimeError"
    (deep,) = dropped.keys() - {"angry"}
    assert "holds itself" in dropped[deep]


_TREES = st.recursive(
    st.floats(allow_nan=False), lambda inner: st.dictionaries(st.text("ab/1", max_size=3), inner, max_size=4)
)


@given(st.dictionaries(st.text("ab/1", max_size=3), _TREES, max_size=5))
def test_every_leaf_is_kept_or_told(metrics: dict[str, Any]) -> None:
    """Nothing is lost on the way, and nothing nested is left."""

    def leaves(value: Any) -> int:
        return sum(map(leaves, value.values())) if isinstance(value, dict) else 1

    dropped: list[str] = []
    found = flatten_metrics(metrics, lambda name, _: dropped.append(name))
    assert len(found) + len(dropped) == leaves(metrics)
    assert not any(isinstance(value, dict) for value in found.values())


def test_sinks_see_the_flat_names() -> None:
    """As MLflow does: a callback, early stopping or a console names ``val/eval/loss``."""
    sample = MetricsSample(3, 1, {"eval": {"loss": 0.5}}, "val/")
    assert named_values(sample) == {"val/eval/loss": 0.5, "epoch": 1}
    seen: list[tuple[float, Any]] = []
    CallbackSink("val/eval/loss", lambda value, step: seen.append((value, step))).on_metrics(sample)
    assert seen == [(0.5, 3)]
    memory = MemorySink()
    memory.on_metrics(sample)
    assert memory.values("val/eval/loss") == [0.5]
