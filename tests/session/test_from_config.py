"""The same set-up from data: a dict, YAML, OmegaConf, pydantic, a recipe's own object."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pydantic
import pytest
import yaml
from mlflow.tracking import MlflowClient
from omegaconf import OmegaConf

import trackside
from trackside.errors import ConfigurationError
from trackside.session.from_config import arguments_from, start_from_config

if TYPE_CHECKING:
    from pathlib import Path

RECIPE = """
optimizer: {lr: 0.1}
mlflow:
  experiment_name: digits
  run_name:
  tags: {team: vision}
  description: The run to beat.
  resume: true
  flatten_depth: 2
trackside:
  destinations:
    - jsonl
    - {type: jsonl, path: thin.jsonl, transform: {every_n_steps: 10, include: [train/*]}}
  terminate_signals: [SIGTERM, SIGUSR1]
  system_metrics: 30
checkpoint:
  checkpoint_dir: checkpoints
"""

WANTED: dict[str, Any] = {
    "experiment_name": "digits",
    "tags": {"team": "vision"},
    "description": "The run to beat.",
    "resume": True,
    "flatten_depth": 2,
    "destinations": [
        "jsonl",
        {"type": "jsonl", "path": "thin.jsonl", "transform": {"every_n_steps": 10, "include": ["train/*"]}},
    ],
    "terminate_signals": [int(signal.SIGTERM), int(signal.SIGUSR1)],
    "system_metrics": 30,
    "checkpoint_dir": "checkpoints",
}


class NemoLike:
    """As NeMo's ConfigNode: dotted get, sections that are nodes too, ``to_yaml_dict``."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def get(self, key: str, default: Any = None) -> Any:
        found: Any = self
        for part in key.split("."):
            found = found._values.get(part, default)
        return NemoLike(found) if isinstance(found, dict) else found

    def to_yaml_dict(self, use_orig_values: bool = False) -> dict[str, Any]:
        return self._values


class Section(pydantic.BaseModel):
    experiment_name: str = "digits"
    tags: dict[str, str] = {"team": "vision"}
    run_name: str | None = None


class Settings(pydantic.BaseModel):
    lr: float = 0.1
    mlflow: Section = Section()


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


@pytest.mark.parametrize("make", [dict, OmegaConf.create, NemoLike])
def test_every_form_of_the_same_data(make: Any) -> None:
    """One recipe. Whatever read it, ``start()`` gets the same."""
    cfg = make(yaml.safe_load(RECIPE))
    arguments = arguments_from(cfg)
    assert arguments.pop("config") is cfg
    assert {key: _plain(value) for key, value in arguments.items()} == WANTED


def test_a_pydantic_object() -> None:
    """Sections that are models. What is None is left out."""
    arguments = arguments_from(Settings())
    assert arguments["experiment_name"] == "digits"
    assert arguments["tags"] == {"team": "vision"}
    assert "run_name" not in arguments


def test_sections_may_be_missing() -> None:
    """A training's configuration without a word about logging is just logged."""
    cfg = {"lr": 0.1}
    assert arguments_from(cfg) == {"config": cfg, "checkpoint_dir": None}


def test_all_levels_can_be_asked_for() -> None:
    """``flatten_depth: null`` is a value."""
    assert arguments_from({"mlflow": {"flatten_depth": None}})["flatten_depth"] is None


def test_sinks_may_be_objects() -> None:
    """A recipe written in Python."""
    seen: list[Any] = []
    assert arguments_from({"trackside": {"sinks": [seen.append]}})["sinks"] == [seen.append]


@pytest.mark.parametrize(
    ("cfg", "said"),
    [
        ({"mlflow": {"experiment": "x"}}, "'experiment'; did you mean 'experiment_name'"),
        ({"mlflow": {"sinks": []}}, "unknown key of the section 'mlflow' 'sinks'"),
        ({"trackside": {"destination": []}}, "did you mean 'destinations'"),
        ({"trackside": {"destinations": "jsonl"}}, "must be a list"),
        ({"trackside": {"sinks": 7}}, "must be a list"),
        ({"trackside": {"terminate_signals": ["SIGNONE"]}}, "'SIGNONE' is not a signal"),
        ({"mlflow": 7}, "must be a mapping"),
    ],
)
def test_mistakes(cfg: Any, said: str) -> None:
    """Each is an error that names what was meant."""
    with pytest.raises(ConfigurationError, match=said):
        start_from_config(cfg)


def test_a_run_from_a_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """End to end: the run, its params, the second destination. An argument comes before the recipe's."""
    monkeypatch.chdir(tmp_path)
    cfg = yaml.safe_load(RECIPE)
    with start_from_config(cfg, run_name="from-recipe", system_metrics=False) as run:
        for step in range(20):
            trackside.log({"loss": 1.0}, step=step, prefix="train")
        assert run.flush(60)
        run_id = run.run_id
    assert run_id is not None
    found = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(run_id)
    assert found.info.run_name == "from-recipe"
    assert found.data.tags["team"] == "vision"
    assert found.data.params["optimizer.lr"] == "0.1"
    assert (tmp_path / "checkpoints" / "mlflow_run_id").read_text() == run_id
    assert len((tmp_path / "thin.jsonl").read_text().splitlines()) == 2
