"""What start(destinations=...) takes, and what it says to what it does not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from trackside.errors import ConfigurationError
from trackside.session.destinations import plan_destinations
from trackside.transform import Transform

if TYPE_CHECKING:
    from pathlib import Path


def test_nothing_is_the_run_alone() -> None:
    """On rank 0 the MLflow run, elsewhere nothing at all."""
    assert plan_destinations((), 0).mlflow
    assert not plan_destinations((), 0).specs
    assert plan_destinations((), 1).empty


def test_names_and_mappings(tmp_path: Path) -> None:
    """A kind alone, or with options. Each has a name of its own for its cursor."""
    plan = plan_destinations(
        ["jsonl", {"type": "jsonl", "path": tmp_path / "a.jsonl"}, {"type": "jsonl", "name": "mine"}], 0
    )
    assert [spec.name for spec in plan.specs] == ["jsonl", "jsonl-2", "mine"]
    assert plan.specs[1].options == {"path": str(tmp_path / "a.jsonl")}


def test_objects_that_hold_options() -> None:
    """OmegaConf, pydantic, namespaces: what a recipe is made of."""
    omegaconf = pytest.importorskip("omegaconf")
    one = omegaconf.OmegaConf.create({"type": "jsonl", "transform": {"include": ["loss"]}})
    plan = plan_destinations(omegaconf.OmegaConf.create([one, "jsonl"]), 0)
    assert plan.specs[0].transform == Transform(include=("loss",))
    assert plan_destinations([SimpleNamespace(type="jsonl")], 0).specs[0].kind == "jsonl"


def test_the_run_itself_can_be_shaped() -> None:
    """A second server is one with an address."""
    plan = plan_destinations([{"type": "mlflow", "transform": {"every_n_steps": 10}}], 0)
    assert plan.mlflow_transform == Transform(every_n_steps=10)
    assert plan.specs == ()
    second = plan_destinations([{"type": "mlflow", "tracking_uri": "http://other:5000"}], 0)
    assert [(spec.name, spec.kind) for spec in second.specs] == [("mlflow-2", "mlflow")]


def test_ranks() -> None:
    """Rank 0 unless the transform says otherwise."""
    wanted = ["jsonl", {"type": "jsonl", "path": "r{rank}.jsonl", "transform": {"ranks": [0, 3]}}]
    assert len(plan_destinations(wanted, 0).specs) == 2
    assert [spec.name for spec in plan_destinations(wanted, 3).specs] == ["jsonl-2"]
    assert not plan_destinations(wanted, 3).mlflow
    assert plan_destinations(wanted, 1).empty


def test_secrets_are_kept_apart() -> None:
    """On disk an address is masked. The shipper gets the whole of it by another way."""
    plan = plan_destinations([{"type": "mlflow", "tracking_uri": "http://me:hunter2@other:5000"}], 0)
    assert "hunter2" not in repr(plan.specs)
    assert plan.secrets == {"mlflow-2": {"tracking_uri": "http://me:hunter2@other:5000"}}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("jsonl", "must be a list"),
        ({"type": "jsonl"}, "must be a list"),
        (7, "must be a list"),
        ([7], "a name such as 'tensorboard' or a mapping"),
        ([{"path": "x"}], "needs a type"),
        (["jsnol"], "did you mean 'jsonl'"),
        ([{"type": "jsonl", "pth": "x"}], "did you mean 'path'"),
        ([{"type": "jsonl", "transform": {"inclde": "x"}}], "did you mean 'include'"),
        ([{"type": "jsonl", "name": "a b"}], "letters, digits and dashes"),
        ([{"type": "jsonl", "name": "x"}, {"type": "jsonl", "name": "x"}], "two destinations are named 'x'"),
        ([{"type": "jsonl", "name": "mlflow"}], "two destinations are named 'mlflow'"),
        ([{"type": "mlflow", "experiment_name": "x"}], r"arguments of start\(\)"),
        ([{"type": "mlflow", "name": "mirror"}], "has name and no tracking_uri. For a second server, give"),
        ([{"type": "mlflow", "transform": {"ranks": [1]}}], "takes no ranks"),
        ([{"type": "mlflow", "tracking_uri": " "}], "must be an address"),
        ([{"type": "no.such_module_here:Thing"}], "not installed"),
    ],
)
def test_mistakes(given: Any, said: str) -> None:
    """Each is an error at once, that names what was meant, on every rank."""
    for rank in (0, 1):
        with pytest.raises(ConfigurationError, match=said):
            plan_destinations(given, rank)
