"""The pure helpers the project grew from: configs become params, and values become floats."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trackside import mlflow_utils
from trackside.mlflow_utils import flatten_params_for_mlflow, to_float_metrics
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Callable


@pytest.mark.parametrize(
    ("depth", "expected"),
    [
        (0, {"a": "{'b': {'c': {'d': 1}}}", "x": "None"}),
        (1, {"a.b": "{'c': {'d': 1}}", "x": "None"}),
        (2, {"a.b.c": "{'d': 1}", "x": "None"}),
        (None, {"a.b.c.d": "1", "x": "None"}),
    ],
)
def test_depth_says_how_many_levels_become_keys(depth: int | None, expected: dict[str, str]) -> None:
    """What is deeper is one string."""
    nested = {"a": {"b": {"c": {"d": 1}}}, "x": None}
    assert flatten_params_for_mlflow(nested, max_depth=depth) == expected


def test_one_level_is_the_default() -> None:
    """Runs logged with the module this one replaces stay comparable."""
    assert flatten_params_for_mlflow({"a": {"b": {"c": 1}}}) == {"a.b": "{'c': 1}"}


def test_lists_and_tuples_are_one_string_at_any_depth() -> None:
    """A key per element would be noise."""
    flat = flatten_params_for_mlflow({"o": {"betas": [0.9, {"x": 1}], "s": (3, 4)}}, None)
    assert flat == {"o.betas": "[0.9, {'x': 1}]", "o.s": "(3, 4)"}


def test_a_prefix_goes_before_every_key() -> None:
    """`_depth` is where the recursion stands. A caller may start it deeper."""
    assert flatten_params_for_mlflow({"a": {"b": 1}}, prefix="p") == {"p.a.b": "1"}
    assert flatten_params_for_mlflow({"a": {"b": 1}}, 1, "p", 1) == {"p.a": "{'b': 1}"}


def test_empty_mappings() -> None:
    """One that would be split leaves nothing. Below the depth it is a string like any other."""
    assert flatten_params_for_mlflow({}) == {}
    assert flatten_params_for_mlflow({"a": {}, "b": {"c": {}}}) == {"b.c": "{}"}


@given(
    st.recursive(
        st.dictionaries(st.sampled_from("abc"), st.integers() | st.just([1, 2]), max_size=3),
        lambda inner: st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    ),
    st.integers(0, 4) | st.none(),
)
def test_every_key_leads_to_its_value(nested: dict[str, Any], depth: int | None) -> None:
    """Following a dotted key through the mapping gives what was stringified."""
    for dotted, text in flatten_params_for_mlflow(nested, depth).items():
        value: Any = nested
        steps = dotted.split(".")
        for step in steps:
            value = value[step]
        assert text == str(value)
        assert depth is None or len(steps) <= depth + 1


@pytest.mark.parametrize(
    ("value", "expected"), [(7, 7.0), (1.25, 1.25), (True, 1.0), (float("inf"), float("inf"))]
)
def test_python_numbers_become_floats(value: Any, expected: float) -> None:
    """Bools too: they are counts of one."""
    floats = to_float_metrics({"x": value})
    assert floats == {"x": expected}
    assert type(floats["x"]) is float


@pytest.mark.parametrize(
    ("make_tensor", "expected"),
    [
        (lambda t: t.tensor(2.5), 2.5),
        (lambda t: t.tensor([[2.5]], requires_grad=True), 2.5),
        (lambda t: t.tensor([1.0, 3.0]), 2.0),
        (lambda t: t.tensor([1, 2]), 1.5),
        (lambda t: t.tensor([True, False, False, True]), 0.5),
        (lambda t: t.tensor(True), 1.0),
        (lambda t: t.tensor([1.0, 3.0], dtype=t.bfloat16), 2.0),
        (lambda t: t.tensor([2**53 - 1, 2**53 - 1]), 2.0**53 - 1),
    ],
)
def test_tensors_become_their_value_or_their_mean(make_tensor: Callable[[Any], Any], expected: float) -> None:
    """Integer and bool tensors have a mean here, though not in torch."""
    torch = pytest.importorskip("torch")
    floats = to_float_metrics({"x": make_tensor(torch)})
    assert floats == {"x": expected}
    assert type(floats["x"]) is float


@pytest.mark.parametrize(
    "value", ["2026-05-06T12:00:00", "1.0", None, object(), [1.0], {"a": 1}, 1j, 10**400]
)
def test_anything_else_is_dropped(value: Any) -> None:
    """One metric less, and the rest is logged."""
    assert to_float_metrics({"bad": value, "loss": 1}) == {"loss": 1.0}


def test_tensors_without_a_value_are_dropped() -> None:
    """Complex ones, and those of the meta device, which hold no numbers at all."""
    torch = pytest.importorskip("torch")
    values = {"z": torch.tensor(1j), "m": torch.empty(1, device="meta")}
    assert to_float_metrics(values) == {}


def test_a_dropped_key_is_named_once(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sample's `timestamp` comes at every step. The warning does not."""
    monkeypatch.setattr(mlflow_utils, "_dropped", Once())
    for _ in range(3):
        to_float_metrics({"timestamp": "now", "note": None})
    assert [line.split("'")[1] for line in caplog.messages] == ["timestamp", "note"]
