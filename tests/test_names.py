"""Names and values that MLflow takes."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from mlflow.utils import validation as mlflow_validation

from trackside.events import MetricsSample
from trackside.journal.format import MetricsRecord
from trackside.names import (
    MAX_KEY_LENGTH,
    MAX_PARAM_VALUE_LENGTH,
    prefixed,
    truncate_params,
    valid_model_name,
    valid_name,
)
from trackside.sinks.values import named_values
from trackside.transform import Transform

validation: Any = mlflow_validation  # its functions are not typed

# Text that runs into the rules more often than any text would.
NAMES = st.text() | st.text(alphabet="a/.@ :-\n", max_size=12) | st.text("ab/", min_size=240)


def mlflow_takes(name: str) -> None:
    """Raises MLflow's own error where it does not."""
    validation._validate_param_name(name)
    validation._validate_metric_name(name)
    validation._validate_length_limit("key", validation.MAX_ENTITY_KEY_LENGTH, name)


def test_the_limits_are_mlflows() -> None:
    """A release of MLflow that changes them shows here."""
    assert MAX_KEY_LENGTH == validation.MAX_ENTITY_KEY_LENGTH
    assert MAX_PARAM_VALUE_LENGTH == validation.MAX_PARAM_VAL_LENGTH


@given(NAMES)
@example("")
@example(".")
@example("..")
@example("..a")
@example("/")
@example("a//b")
@example("../@")
@example("..@")
@example("loss\n")
@example("\ud800")
def test_mlflow_takes_every_valid_name(name: str) -> None:
    """Whatever goes in, MLflow's own validator takes what comes out."""
    mlflow_takes(valid_name(name))


@given(NAMES, NAMES)
def test_distinct_names_stay_distinct(one: str, other: str) -> None:
    """What had to be replaced still tells two names apart."""
    assert (valid_name(one) == valid_name(other)) == (one == other)


@given(NAMES)
def test_a_valid_name_is_left_alone(name: str) -> None:
    """So making a name valid twice is the same as once."""
    assert valid_name(valid_name(name)) == valid_name(name)


@pytest.mark.parametrize(
    "name",
    ["loss", "val/loss", "a.b", "lr-group 0", "p99: ms", "µ", "学习率", ".hidden", "a/.b"],
)
def test_valid_names_are_unchanged(name: str) -> None:
    """Slashes, dots, dashes, spaces, colons and letters of any script are fine."""
    assert valid_name(name) == name


@pytest.mark.parametrize(
    ("name", "readable"),
    [
        ("AR@100", "AR_100-"),
        ("timing(s)/gen", "timing_s_/gen-"),
        ("a//b", "a/b-"),
        ("/abs/path", "abs/path-"),
        ("a/../b", "a/b-"),
        ("..a", "a-"),
        ("loss/", "loss-"),
        ("", "_-"),
        ("x" * 300, "x" * 241 + "-"),
    ],
)
def test_a_changed_name_stays_readable(name: str, readable: str) -> None:
    """It starts with what could be kept and ends in eight hexadecimal digits."""
    made = valid_name(name)
    assert made.startswith(readable)
    assert len(made) == len(readable) + 8
    int(made[-8:], 16)


def test_a_name_is_the_same_in_every_process() -> None:
    """A resumed run must find its own metrics again: no randomised hash."""
    assert valid_name("AR@100") == "AR_100-94436b7e"


def test_there_must_be_room_for_the_digits() -> None:
    """A limit that no name can keep is the caller's mistake."""
    assert len(valid_name("@@@@", max_length=10)) == 10
    with pytest.raises(ValueError, match="at least 10"):
        valid_name("@", max_length=9)


def test_params_that_fit_are_unchanged() -> None:
    """Nothing is reported when nothing was done."""
    params = {"a": "1", "b.c": "x" * 6000, "d": ""}
    assert truncate_params(params) == (params, [])


def test_long_values_are_cut_and_reported() -> None:
    """The cut shows in the value, and the name in the report."""
    params, changed = truncate_params({"short": "x", "long": "y" * 6001})
    assert params["short"] == "x"
    assert params["long"] == "y" * 5997 + "..."
    assert changed == ["long"]


def test_changed_keys_are_reported_by_their_original_name() -> None:
    """What the user wrote is what the user will look for."""
    params, changed = truncate_params({"a@b": "1", "c": "2"})
    assert changed == ["a@b"]
    assert params == {valid_name("a@b"): "1", "c": "2"}


def test_a_key_that_looks_like_a_made_one_loses_nothing() -> None:
    """A valid key keeps its name even when another key would have been given it."""
    made = valid_name("a@b")
    for keys in (["a@b", made], [made, "a@b"]):
        params, changed = truncate_params({key: key for key in keys})
        assert len(params) == 2
        assert params[made] == made
        assert changed == ["a@b"]


def test_nul_characters_are_spelt_out() -> None:
    """PostgreSQL refuses a whole batch for one of them."""
    assert truncate_params({"a": "x\0y"}) == ({"a": "x\\0y"}, ["a"])


@pytest.mark.parametrize("limit", [0, 1, 2, 3, 4])
def test_tiny_limits_hold(limit: int) -> None:
    """Even a limit below the length of the dots is a limit."""
    params, _ = truncate_params({"a": "value"}, max_value=limit)
    assert len(params["a"]) == limit


@given(st.dictionaries(NAMES, st.text(max_size=30)), st.integers(3, 40))
def test_mlflow_takes_truncated_params(params: dict[str, str], limit: int) -> None:
    """No param is lost, every key is valid, every value within the limit, every change told."""
    result, changed = truncate_params(params, max_value=limit)
    assert len(result) == len(params)
    for name, value in result.items():
        mlflow_takes(name)
        assert len(value) <= limit
    same = {key for key in params if result.get(key) == params[key]}
    assert set(changed) == set(params) - same


@pytest.mark.parametrize(
    ("prefix", "name"),
    [
        ("val", "val/loss"),
        ("val/", "val/loss"),
        ("/val//", "val/loss"),
        ("a/b", "a/b/loss"),
        (5, "5/loss"),
        (None, "loss"),
        ("", "loss"),
        ("/", "loss"),
    ],
)
def test_a_prefix_goes_before_one_slash(prefix: object, name: str) -> None:
    """Slashes at its ends are not part of it, for records, sinks and shapes alike."""
    assert prefixed(prefix, [("loss", 1)]) == {name: 1}
    text = prefix if prefix is None else str(prefix)
    record = MetricsRecord(0, 0, 0, None, text, {"loss": 0.5})
    assert record.named_values() == {name: 0.5}
    assert named_values(MetricsSample(0, None, {"loss": 1}, text)) == {name: 1}
    assert Transform(prefix=text).delivered_as("loss") == name


@given(NAMES)
@example("a/b:c.d%e\"f'g")
@example("...")
def test_mlflow_takes_every_name_of_a_model(name: str) -> None:
    """And what it takes by itself is hardly changed."""
    valid = valid_model_name(name)
    validation._validate_logged_model_name(valid)
    assert 0 < len(valid) <= MAX_KEY_LENGTH


@pytest.mark.parametrize(
    ("name", "valid"),
    [("epoch=3 best", "epoch=3 best"), ("net/v1.5", "net-v1-5"), ("50%", "50"), ("./", "model")],
)
def test_a_changed_name_of_a_model_can_be_recognised(name: str, valid: str) -> None:
    """Refused characters become a hyphen."""
    assert valid_model_name(name) == valid
