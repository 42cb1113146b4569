"""NeMo Automodel: the samples of its real ``MetricLogger``."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from tests.frameworks.programs import Programs
from trackside.testing import capture

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytest.importorskip("torch")
metric_logger: Any = pytest.importorskip("nemo_automodel.components.loggers.metric_logger")
pytestmark = pytest.mark.frameworks


@pytest.fixture
def forwarding() -> Iterator[None]:
    """Samples go on the bus for the test."""
    from trackside.integrations.nemo import forward_samples

    forward_samples()
    end = forward_samples()  # a notebook cell that runs twice
    yield
    end()


def test_samples_go_on_the_bus(tmp_path: Path, forwarding: None) -> None:
    """With their tensors, once each. Validation sets are told apart, and the files are as before."""
    import torch

    def sample(value: float) -> Any:
        return metric_logger.MetricsSample(step=3, epoch=1, metrics={"loss": torch.tensor(value), "lr": 0.1})

    with capture() as sink:
        for name, value in (("training", 1.0), ("validation_squad", 2.0), ("validation", 3.0)):
            with metric_logger.MetricLogger(str(tmp_path / f"{name}.jsonl")) as logger:
                logger.log(sample(value))
    assert sink.metrics("loss") == [(3, 1.0)]
    assert sink.metrics("validation_squad/loss") == [(3, 2.0)]
    assert sink.metrics("validation/lr") == [(3, 0.1)]
    assert sink.metrics("epoch")[0] == (3, 1.0)
    written = json.loads((tmp_path / "training.jsonl").read_text())
    assert (written["step"], written["loss"]) == (3, 1.0)


def test_it_ends(tmp_path: Path) -> None:
    """And the logger is as it was."""
    from trackside.integrations.nemo import forward_samples

    before = metric_logger.MetricLogger.log
    forward_samples()()
    assert metric_logger.MetricLogger.log is before


def test_an_odd_sample_does_not_stop_the_logger(tmp_path: Path, forwarding: None) -> None:
    """What cannot be emitted is still for the file."""

    class Odd(dict[str, float]):
        def keys(self) -> Any:
            raise RuntimeError("not now")

    logger = metric_logger.MetricLogger(str(tmp_path / "training.jsonl"))
    logger.log(metric_logger.MetricsSample(step=1, epoch=0, metrics=Odd(loss=1.0)))
    assert len(logger.buffer) == 1
    logger.buffer.clear()
    logger.close()


RECIPE = """
import sys
import mlflow
import torch
import torch.distributed as dist
from nemo_automodel.components.loggers.loggers import MLflowConfig
from nemo_automodel.components.loggers.mlflow_utils import to_float_metrics

dist.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
about = {"run_name": "recipe", "tags": {"team": "a"}, "description": "words"}
settings = MLflowConfig(experiment_name=sys.argv[2], **about)
settings.build(checkpoint_dir="checkpoints", run_config={"model": {"size": 1}})
for step in range(5):
    mlflow.log_metrics(to_float_metrics({"loss": torch.tensor(0.5**step)}), step=step)
if sys.argv[2] == "nemo-raises":
    raise RuntimeError("boom")
if sys.argv[2] == "nemo-killed":
    import os, signal
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.outside
@pytest.mark.parametrize(
    ("experiment", "status"),
    [("nemo-returns", "FINISHED"), ("nemo-raises", "FAILED"), ("nemo-killed", "FAILED")],
)
def test_the_recipes_mlflow_with_the_variable_alone(
    tmp_path: Path, mlflow_url: str, experiment: str, status: str
) -> None:
    """``MLflowConfig.build`` and ``mlflow.log_metrics`` as Automodel's recipes call them."""
    programs, address = Programs(tmp_path, mlflow_url), f"journal+{mlflow_url}"
    rendezvous = str(tmp_path / "rendezvous")
    said = programs.run(RECIPE, rendezvous, experiment, code=None, MLFLOW_TRACKING_URI=address)
    run = programs.only_run(experiment)
    assert run.info.status == status, said
    assert programs.history(run, "loss") == [(step, 0.5**step) for step in range(5)]
    assert (run.data.params["model.size"], run.data.tags["team"]) == ("1", "a")
    assert run.data.tags["mlflow.note.content"].startswith("words")
    assert (tmp_path / "checkpoints" / "mlflow_run_id").read_text().strip() == run.info.run_id
