"""Ray Tune and Ray Train with our callbacks, on a Ray of two processors that each program starts."""

from __future__ import annotations

import pytest

from tests.frameworks.programs import Programs

pytest.importorskip("ray")

pytestmark = [pytest.mark.frameworks, pytest.mark.slow]

HEAD = """
import os
os.environ["RAY_TRAIN_V2_ENABLED"] = "1"
import ray
ray.init(num_cpus=3, include_dashboard=False, log_to_driver=False, configure_logging=False)
"""

TUNE = """
from ray import tune
from trackside.integrations.ray import TracksideLoggerCallback

def train(config):
    for number in range(4):
        tune.report({"score": config["lr"] * number, "nested": {"number": number}})
        if config["lr"] == 2 and number == 2:
            raise ValueError("boom")

callback = TracksideLoggerCallback(experiment_name="tune", run_name="search")
settings = tune.RunConfig(storage_path=os.path.abspath("results"), verbose=0, callbacks=[callback])
tune.Tuner(train, param_space={"lr": tune.grid_search([1, 2])}, run_config=settings).fit()
"""


def test_each_trial_of_tune_is_a_run_below_that_of_the_experiment(tmp_path, store):
    """Trials have their config and results. One that raises is FAILED, and the experiment is not."""
    programs = Programs(tmp_path, store)
    programs.run(HEAD + TUNE)
    runs = programs.runs("tune")
    [parent] = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    good, bad = sorted((run for run in runs if run is not parent), key=lambda run: run.data.params["lr"])
    assert (parent.info.run_name, parent.info.status) == ("search", "FINISHED")
    assert {run.data.tags["mlflow.parentRunId"] for run in (good, bad)} == {parent.info.run_id}
    assert (good.info.status, bad.info.status) == ("FINISHED", "FAILED")
    assert bad.data.tags["trackside.end.reason"] == "ValueError: boom"
    assert programs.points(good)["score"] == [(1, 0.0), (2, 1.0), (3, 2.0), (4, 3.0)]
    assert programs.points(bad)["nested/number"] == [(1, 0.0), (2, 1.0), (3, 2.0)]


TRAIN = """
import ray.train
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from trackside.integrations.ray import TracksideTrainCallback

def train():
    for number in range(4):
        ray.train.report({"loss": 1.0 / (number + 1), "rank": ray.train.get_context().get_world_rank()})
    if os.environ["CRASH"]:
        raise ValueError("boom")

callback = TracksideTrainCallback(experiment_name=os.environ["EXPERIMENT"], all_ranks=True)
settings = ray.train.RunConfig(storage_path=os.path.abspath("results"), callbacks=[callback])
scaling = ray.train.ScalingConfig(num_workers=2)
DataParallelTrainer(train, scaling_config=scaling, run_config=settings).fit()
"""


@pytest.mark.parametrize("crash", ["", "1"])
def test_what_the_workers_of_ray_train_report_is_in_the_drivers_run(tmp_path, store, crash):
    """Each rank's metrics are there, and the run ends as ``fit()`` does in the driver.

    Ray kills the controller with its shipper. The driver delivers what they have left before it leaves.
    """
    programs, name = Programs(tmp_path, store), f"train {crash}"
    programs.run(HEAD + TRAIN, code=1 if crash else 0, EXPERIMENT=name, CRASH=crash)
    run = programs.only_run(name)
    assert run.info.status == ("FAILED" if crash else "FINISHED")
    assert programs.points(run)["loss"] == [(0, 1.0), (1, 0.5), (2, 0.333333), (3, 0.25)]
    assert programs.points(run)["rank_1/rank"] == [(number, 1.0) for number in range(4)]
