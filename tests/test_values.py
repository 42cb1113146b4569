"""Values and names as programs give them, read back from MLflow."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.support.program import run_python

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import logging

import numpy
import torch

import trackside

logging.basicConfig(level=logging.INFO, format="%(levelname)s %(message)s")
with trackside.start("values"):
    for step in range(2):
        per_class = {0: 0.9, 1: torch.tensor(0.8)}
        trackside.log({"loss": 0.5, "eval": {"loss": 1.0, "per_class": per_class, "nothing": {}}}, step=step)
        trackside.log({"loss": 0.7, "eval/": {"acc": 0.5}}, step=step, prefix="val/")
        trackside.log({"twice": {"acc": 1.0}, "twice/acc": 2.0}, step=step)
        trackside.log({"image": numpy.full((8, 8, 3), 0.25), "losses": [1.0, 3.0]}, step=step)
    trackside.log({"cut": 1.0}, step=1.5)
    trackside.log({"cut": 2.0}, step=1.75)
"""


@pytest.mark.torch
@pytest.mark.wheel
@pytest.mark.process
def test_what_programs_log_arrives_under_the_names_they_expect(tmp_path: Path) -> None:
    """Nested metrics flat, ``val/`` as ``val``, several elements as their mean: each logged once."""
    uri = new_database(tmp_path)
    done = run_python(
        "-c",
        PROGRAM,
        cwd=tmp_path,
        timeout=150,
        MLFLOW_TRACKING_URI=uri,
        TRACKSIDE_START_TIMEOUT="60",
        TRACKSIDE_EXIT_TIMEOUT="60",
    )
    assert done.returncode == 0, done.stderr
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("values")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics == {
        "loss": 0.5,
        "eval/loss": 1.0,
        "eval/per_class/0": 0.9,
        "eval/per_class/1": pytest.approx(0.8),
        "val/loss": 0.7,
        "val/eval/acc": 0.5,
        "twice/acc": 2.0,
        "image": 0.25,
        "losses": 2.0,
        "cut": 2.0,
    }
    assert [point.step for point in client.get_metric_history(run.info.run_id, "cut")] == [1, 1]
    said = [line for line in done.stderr.splitlines() if "(logged once" in line]
    assert [line.split(" is ")[0] for line in said] == [
        "WARNING metric 'twice/acc'",
        "INFO metric 'image'",
        "INFO metric 'losses'",
        "WARNING the step 1.5",
    ]
    assert "2 samples had a step that is not a whole number" in done.stderr
