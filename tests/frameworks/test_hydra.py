"""Hydra: real applications, single and in a multirun."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.frameworks.programs import Programs, parent_of

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("hydra")
pytestmark = pytest.mark.frameworks

CONFIG = """
lr: 0.1
where: ${{hydra:runtime.output_dir}}
hydra:
  callbacks:
    trackside:
      _target_: trackside.integrations.hydra.TracksideCallback
      experiment_name: {experiment}
      tags:
        team: a
"""

SCRIPT = """
import sys
import hydra
import trackside

@hydra.main(config_path=".", config_name="config", version_base="1.3")
def main(cfg):
    trackside.log({"loss": cfg.lr * 2}, step=0)
    if cfg.lr == 3:
        raise ValueError("no good")
    if cfg.lr == 4:
        sys.exit(0)
    if cfg.lr == 5:
        print("now", flush=True)
        import time
        time.sleep(300)

main()
"""


@pytest.fixture
def programs(tmp_path: Path, mlflow_url: str, request: pytest.FixtureRequest) -> Programs:
    """Runs the application, with an experiment named after the test."""
    (tmp_path / "config.yaml").write_text(CONFIG.format(experiment=request.node.name))
    return Programs(tmp_path, mlflow_url)


def test_single_job(programs: Programs, request: pytest.FixtureRequest) -> None:
    """Its configuration, without Hydra's own, and its overrides."""
    programs.run(SCRIPT, "lr=7")
    run = programs.only_run(request.node.name)
    assert (run.info.status, run.data.metrics) == ("FINISHED", {"loss": 14.0})
    assert run.data.params["lr"] == "7"
    assert not [name for name in run.data.params if name.startswith("hydra")]
    assert run.data.params["where"] == run.data.tags["hydra.output_dir"]
    assert (run.data.tags["hydra.overrides"], run.data.tags["team"]) == ("lr=7", "a")
    assert parent_of(run) is None


@pytest.mark.parametrize(
    ("lr", "end"), [("3", (1, "FAILED", "no good")), ("4", (0, "FINISHED", ""))], ids=["raises", "exits"]
)
def test_single_job_ends(
    programs: Programs, request: pytest.FixtureRequest, lr: str, end: tuple[int, str, str]
) -> None:
    """Hydra catches an exception and leaves with code 1. It does not see sys.exit()."""
    code, status, reason = end
    programs.run(SCRIPT, f"lr={lr}", code=code)
    run = programs.only_run(request.node.name)
    assert run.info.status == status
    assert reason in json.dumps(run.data.tags)


def test_killed_job(programs: Programs, request: pytest.FixtureRequest) -> None:
    """What it logged is there, and it is FAILED."""
    programs.kill_when_it_says("now", SCRIPT, "lr=5")
    run = programs.only_run(request.node.name)
    assert (run.info.status, run.data.metrics) == ("FAILED", {"loss": 10.0})


def test_multirun(programs: Programs, request: pytest.FixtureRequest) -> None:
    """A run for each job, under that of the sweep."""
    programs.run(SCRIPT, "--multirun", "lr=1,2")
    runs = programs.runs_by_name(request.node.name)
    parents = [run for run in runs.values() if parent_of(run) is None]
    jobs = [run for run in runs.values() if parent_of(run) is not None]
    assert len(parents) == 1
    assert {parent_of(run) for run in jobs} == {parents[0].info.run_id}
    assert {run.info.run_name: run.data.metrics for run in jobs} == {
        "lr=1": {"loss": 2.0},
        "lr=2": {"loss": 4.0},
    }
    assert {run.data.tags["hydra.job_num"] for run in jobs} == {"0", "1"}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_multirun_with_a_job_that_fails(programs: Programs, request: pytest.FixtureRequest) -> None:
    """That job is FAILED, and so is the sweep. The others are not."""
    programs.run(SCRIPT, "--multirun", "lr=1,3", code=1)
    runs = programs.runs_by_name(request.node.name)
    parent = next(run for run in runs.values() if parent_of(run) is None)
    assert parent.info.status == "FAILED"
    assert (runs["lr=1"].info.status, runs["lr=3"].info.status) == ("FINISHED", "FAILED")
