"""Optuna: real studies, and the runs that MLflow has of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.frameworks.programs import Programs, parent_of

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("optuna")
pytestmark = pytest.mark.frameworks

SETUP = """
import logging, sys
import optuna
import trackside
from trackside.integrations.optuna import TracksideCallback
optuna.logging.set_verbosity(optuna.logging.WARNING)
sampler = optuna.samplers.RandomSampler(seed=3)
"""


def test_a_study_with_decorator_and_callback(tmp_path: Path, mlflow_url: str) -> None:
    """Complete, pruned and failed trials are told apart, each in a run under that of the study."""
    programs = Programs(tmp_path, mlflow_url)
    script = """
tracker = TracksideCallback("loss")

@tracker.track_in_trackside()
def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    trial.set_user_attr("note", f"trial {trial.number}")
    for step in range(3):
        trial.report(trial.number + step / 10, step)
        trackside.log({"own": step * 2.0}, step=step)
        if trial.number == 1 and step == 1:
            raise optuna.TrialPruned
    if trial.number == 2:
        raise ValueError("no good")
    return float("nan") if trial.number == 3 else x

study = optuna.create_study(study_name="my_study", sampler=sampler)
with tracker:
    study.optimize(objective, n_trials=5, callbacks=[tracker], catch=(ValueError,))
assert len(study.trials) == 5
trackside.log({"after": 1.0}, step=0)
"""
    programs.run(SETUP + script)
    runs = programs.runs_by_name("my_study")
    assert set(runs) == {"my_study", "0", "1", "2", "3", "4"}
    study = runs["my_study"]
    trials = [runs[str(number)] for number in range(5)]
    assert {parent_of(trial) for trial in trials} == {study.info.run_id}
    assert [trial.info.status for trial in trials] == ["FINISHED", "FINISHED", "FAILED", "FAILED", "FINISHED"]
    states = [trial.data.tags["state"] for trial in trials]
    assert states == ["COMPLETE", "PRUNED", "FAIL", "FAIL", "COMPLETE"]
    assert programs.history(trials[0], "intermediate_loss") == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert programs.history(trials[1], "intermediate_loss") == [(0, 1.0), (1, 1.1)]
    assert programs.history(trials[1], "own") == [(0, 0.0), (1, 2.0)]
    assert trials[1].data.metrics["loss"] == pytest.approx(1.1)
    assert "loss" not in trials[2].data.metrics
    assert trials[0].data.params["x"] == str(trials[0].data.metrics["loss"])
    assert trials[0].data.tags["note"] == "trial 0"
    assert "FloatDistribution" in trials[0].data.tags["x_distribution"]
    assert trials[0].data.tags["direction"] == "MINIMIZE"
    assert "no good" in json.dumps(trials[2].data.tags)
    assert "nan" in json.dumps(trials[3].data.tags)
    assert study.info.status == "FINISHED"
    assert study.data.params["sampler"] == "RandomSampler"
    best = min(trials[0].data.metrics["loss"], trials[4].data.metrics["loss"])
    assert study.data.metrics["best_loss"] == best
    assert study.data.params["best_params.x"] == str(best)
    assert [step for step, _ in programs.history(study, "loss")] == [0, 4]
    assert "own" not in study.data.metrics


def test_the_callback_alone_in_threads(tmp_path: Path, mlflow_url: str) -> None:
    """Several trials at once, several objectives. Trials of an uncaught exception are logged at the end."""
    programs = Programs(tmp_path, mlflow_url)
    script = """
def objective(trial):
    x = trial.suggest_float("x", 0, 1)
    return x, trial.number

study = optuna.create_study(study_name="many", directions=["minimize", "maximize"], sampler=sampler)
tracker = TracksideCallback(experiment_name="elsewhere")
try:
    with tracker:
        study.optimize(objective, n_trials=6, n_jobs=3, callbacks=[tracker])
        study.optimize(lambda trial: 1 / 0, n_trials=1, callbacks=[tracker])
except ZeroDivisionError:
    print("raised")
"""
    assert "raised" in programs.run(SETUP + script).splitlines()
    runs = programs.runs_by_name("elsewhere")
    study = runs.pop("many")
    assert study.info.status == "FAILED"
    assert set(runs) == {str(number) for number in range(7)}
    for number in range(6):
        run = runs[str(number)]
        assert run.data.metrics["value_1"] == number
        assert str(run.data.metrics["value_0"]) == run.data.params["x"]
        assert (run.info.status, run.data.tags["state"]) == ("FINISHED", "COMPLETE")
        assert run.data.tags["direction"] == "['MINIMIZE', 'MAXIMIZE']"
    assert (runs["6"].info.status, runs["6"].data.tags["state"]) == ("FAILED", "FAIL")


def test_a_killed_study(tmp_path: Path, mlflow_url: str) -> None:
    """The trial that the process died in has what it reported, and is FAILED. So is the study."""
    programs = Programs(tmp_path, mlflow_url)
    script = """
tracker = TracksideCallback()

@tracker.track_in_trackside()
def objective(trial):
    trial.suggest_float("x", 0, 1)
    trial.report(7.0, 0)
    if trial.number == 1:
        print("now", flush=True)
        import time
        time.sleep(300)
    return 1.0

study = optuna.create_study(study_name="killed", sampler=sampler)
study.optimize(objective, n_trials=3, callbacks=[tracker])
"""
    programs.kill_when_it_says("now", SETUP + script)
    runs = programs.runs_by_name("killed")
    statuses = {name: run.info.status for name, run in runs.items()}
    assert statuses == {"killed": "FAILED", "0": "FINISHED", "1": "FAILED"}
    assert programs.history(runs["1"], "intermediate_value") == [(0, 7.0)]


def test_two_processes_on_one_study(tmp_path: Path, mlflow_url: str) -> None:
    """The second one's trials are under the first one's run, which the first one ends."""
    programs = Programs(tmp_path, mlflow_url)
    script = """
storage = optuna.storages.RDBStorage("sqlite:///study.db")
tracker = TracksideCallback("loss")
study = optuna.create_study(study_name="shared", storage=storage, sampler=sampler, load_if_exists=True)
study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2, callbacks=[tracker])
"""
    for _ in range(2):
        programs.run(SETUP + script)
    runs = programs.runs_by_name("shared")
    study = runs.pop("shared")
    assert set(runs) == {"0", "1", "2", "3"}
    assert {parent_of(run) for run in runs.values()} == {study.info.run_id}
    assert {run.info.experiment_id for run in runs.values()} == {study.info.experiment_id}
    assert [step for step, _ in programs.history(study, "loss")] == [0, 1]


def test_the_programs_own_run_is_the_parent(tmp_path: Path, mlflow_url: str) -> None:
    """It gets the study's curve, and the program ends it. The callback alone knows a pruned trial, too."""
    programs = Programs(tmp_path, mlflow_url)
    script = """
def objective(trial):
    trial.report(0.5, 3)
    if trial.number == 0:
        raise optuna.TrialPruned
    return trial.suggest_categorical("kind", ["a", "b"]) == "a"

with trackside.start("mine", run_name="mine") as run:
    tracker = TracksideCallback()
    optuna.create_study(sampler=sampler).optimize(objective, n_trials=2, callbacks=[tracker])
    tracker.finish()
    assert run.is_recording
    trackside.log({"after": 1.0}, step=0)
"""
    programs.run(SETUP + script)
    runs = programs.runs_by_name("mine")
    mine = runs.pop("mine")
    assert mine.data.metrics["after"] == 1.0
    assert {parent_of(run) for run in runs.values()} == {mine.info.run_id}
    assert (runs["0"].info.status, runs["0"].data.tags["state"]) == ("FINISHED", "PRUNED")
    assert programs.history(runs["0"], "intermediate_value") == [(3, 0.5)]
    assert runs["1"].data.params["kind"] in {"a", "b"}


def test_odd_trials(tmp_path: Path, mlflow_url: str) -> None:
    """Long and odd names and values, numpy's numbers, more arguments, ask and tell, and Ctrl-C."""
    programs = Programs(tmp_path, mlflow_url)
    script = """
import functools
import numpy as np
tracker = TracksideCallback(experiment_name="odd")

@tracker.track_in_trackside()
def objective(offset, trial, *, scale):
    trial.suggest_float("lr (log), 10^x", 1e-5, 1, log=True)
    trial.suggest_categorical("layers", [(1, 2), None, "x" * 9000])
    trial.set_user_attr("long", "y" * 20000)
    trial.set_user_attr("none", None)
    trial.report(np.float32(1.5), np.int64(3))
    run = tracker.run
    run.log({"mine": 1}, step=0)
    return np.float32(offset * scale)

study = optuna.create_study(study_name="odd", sampler=sampler)
study.optimize(functools.partial(objective, 2, scale=3), n_trials=1, callbacks=[tracker])
asked = study.ask()
asked.suggest_int("n", 1, 3)
tracker(study, study.tell(asked, float("inf")))

@tracker.track_in_trackside()
def interrupted(trial):
    raise KeyboardInterrupt

try:
    study.optimize(interrupted, n_trials=1)
except KeyboardInterrupt:
    pass
tracker.finish()
"""
    programs.run(SETUP + script)
    runs = programs.runs_by_name("odd")
    assert (runs["0"].data.metrics["value"], runs["0"].data.metrics["mine"]) == (6.0, 1.0)
    assert programs.history(runs["0"], "intermediate_value") == [(3, 1.5)]
    assert len(runs["0"].data.params) == 2
    assert runs["0"].data.tags["long"].startswith("yyyy")
    assert runs["1"].data.params["n"] in {"1", "2", "3"}
    assert runs["2"].info.status == "KILLED"
    assert runs["odd"].info.status == "FINISHED"
