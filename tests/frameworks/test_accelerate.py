"""Accelerate with the tracker: which run it gets, and what is in it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest

pytest.importorskip("accelerate")

import torch
from accelerate import Accelerator, tracking

import trackside
from tests.ends.harness import wait_until_delivered
from tests.frameworks.offline import params, place, steps, values  # noqa: F401 - a fixture
from tests.support import recorder
from tests.support.program import run_python
from trackside.integrations.accelerate import TracksideTracker

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.frameworks, pytest.mark.outside, pytest.mark.filterwarnings("default")]


def test_by_its_name() -> None:
    """Configuration and metrics, until ``end_training()``. The project is the experiment."""
    accelerator = Accelerator(cpu=True, log_with="trackside")
    accelerator.init_trackers(
        "digits", config={"lr": 0.1, "model": {"depth": 3}}, init_kwargs={"trackside": {"run_name": "first"}}
    )
    run: Any = accelerator.get_tracker("trackside", unwrap=True)
    assert id(run) == id(trackside.current_run())
    for step in range(3):
        accelerator.log({"loss": torch.tensor(1.0 / (step + 1)), "note": "a text"}, step=step)
    accelerator.log({"accuracy": 0.5}, step=2, log_kwargs={"trackside": {"prefix": "val", "epoch": 1}})
    assert steps(run, "loss") == [0, 1, 2]
    assert values(run, "loss")[1] == 0.5
    assert steps(run, "val/accuracy") == steps(run, "epoch") == [2]
    assert params(run) == {"lr": "0.1", "model.depth": "3"}
    assert run.link.experiment_name == "digits"
    accelerator.end_training()
    assert run.status == "FINISHED"


def test_as_an_object() -> None:
    """With options of ``start()``. Two trainings in turn have two runs."""
    accelerator = Accelerator(cpu=True, log_with=TracksideTracker(experiment_name="mine"))
    accelerator.init_trackers("the project")
    first = accelerator.get_tracker("trackside", unwrap=True)
    assert first.link.experiment_name == "mine"
    accelerator.end_training()
    later = Accelerator(cpu=True, log_with=[TracksideTracker()])
    later.init_trackers("again")
    assert later.get_tracker("trackside", unwrap=True) is not first
    later.end_training()


def test_a_run_of_the_program_is_used_and_not_ended() -> None:
    """``end_training()`` leaves it alone."""
    with trackside.start("mine") as run:
        accelerator = Accelerator(cpu=True, log_with="trackside")
        accelerator.init_trackers("digits", config={"lr": 0.1})
        accelerator.log({"loss": 1.0}, step=0)
        accelerator.end_training()
        assert run.is_recording
        assert (steps(run, "loss"), params(run)) == ([0], {"lr": "0.1"})


def test_the_operators_experiment_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with Accelerate's own MLflow tracker."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_NAME", "nightly")
    accelerator = Accelerator(cpu=True, log_with="trackside")
    accelerator.init_trackers("digits")
    run = accelerator.get_tracker("trackside", unwrap=True)
    assert run.link.experiment_name == "nightly"


def test_an_older_accelerate(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows no names of others, and the object works."""
    from trackside.integrations.accelerate import _register

    monkeypatch.delattr(tracking, "register_tracker_class")
    _register()


def test_another_rank_begins_a_no_op_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """Accelerate starts trackers on the first rank only."""
    monkeypatch.setenv("RANK", "1")
    tracker = TracksideTracker("digits")
    assert tracker.tracker is not None
    assert tracker.tracker.journal is None
    tracker.log({"loss": 1.0}, step=0)
    tracker.finish()


ENDS = {
    "never ended": ("", 0, "FINISHED", "exit code 0"),
    "never ended, and an exception": ("raise ValueError('boom')", 1, "FAILED", "ValueError: boom"),
    "ended in a finally": (
        "try: raise ValueError('boom')\nfinally: accelerator.end_training()",
        1,
        "FAILED",
        "ValueError: boom",
    ),
}


@pytest.mark.parametrize("case", ENDS)
def test_how_the_run_ends(tmp_path: Path, case: str) -> None:
    """Many programs never call ``end_training()``."""
    code, exit_code, status, reason = ENDS[case]
    program = f"""{recorder.IN_A_SCRIPT}
from accelerate import Accelerator
import trackside.integrations.accelerate
accelerator = Accelerator(cpu=True, log_with="trackside")
accelerator.init_trackers("digits")
accelerator.log({{"loss": 1.0}}, step=0)
"""
    (tmp_path / "train.py").write_text(program + code)
    environment = {
        name: value for name, value in os.environ.items() if name not in {"TRACKSIDE_MODE", "TRACKSIDE_DIR"}
    }
    done = run_python(
        "train.py",
        cwd=tmp_path,
        timeout=240,
        env={**environment, **recorder.environment(tmp_path / "records")},
    )
    assert done.returncode == exit_code, done.stderr
    wait_until_delivered(tmp_path / ".trackside", 240)
    run = recorder.only_run(tmp_path / "records")
    assert (run.status, run.steps("loss")) == (status, {0: 1})
    assert reason in run.reason
