"""The status that MLflow shows for an unchanged program under ``journal+``, however it ends."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import wait_until_delivered
from tests.support.program import run_python
from tests.unchanged.play import environment_of

if TYPE_CHECKING:
    from mlflow.entities import Run

    from tests.faults.servers import MlflowServer

pytestmark = pytest.mark.process

PROGRAMS = Path(__file__).parent / "programs"


def play(server: MlflowServer, folder: Path, kind: str, program: str = "ends") -> tuple[int, Run]:
    """Play one end. Returns the exit code and the run, once everything is delivered."""
    experiment = f"end: {kind}"
    done = run_python(
        PROGRAMS / f"{program}.py",
        kind,
        experiment,
        cwd=folder,
        env=environment_of(folder, f"journal+{server.url}"),
        timeout=200,
    )
    wait_until_delivered(folder / "journals")
    client = MlflowClient(server.url)
    found = client.get_experiment_by_name(experiment)
    assert found is not None, done.stderr
    (run,) = client.search_runs([found.experiment_id])
    return done.returncode, run


@pytest.mark.parametrize(
    ("kind", "code", "end"),
    [
        ("clean", 0, "FINISHED: exit code 0"),
        ("exception", 1, "FAILED: ValueError: boom"),
        ("exception in the block", 1, "FAILED: ValueError: boom"),
        ("ctrl-c in the block", -signal.SIGINT, "KILLED: Ctrl-C (KeyboardInterrupt)"),
        ("exit 0 in the block", 0, "FINISHED: finished"),
        ("exit 3 in the block", 3, "FAILED: exit code 3"),
        ("handled", 0, "FAILED: ValueError: boom"),
        ("exit 3", 3, "FAILED: exit code 3"),
        ("said failed", 0, "FAILED: finished"),
        ("said killed", 0, "KILLED: finished"),
        ("sigterm", -signal.SIGTERM, "KILLED: SIGTERM"),
        ("sigkill", -signal.SIGKILL, "FAILED: died without a word"),
        ("sigsegv", -signal.SIGSEGV, "FAILED: died without a word"),
        ("_exit", 0, "FAILED: died without a word"),
    ],
)
def test_the_status_follows_from_the_evidence(
    shared_server: MlflowServer, tmp_path: Path, kind: str, code: int, end: str
) -> None:
    """Not from MLflow's own word at exit, which is FINISHED. Every point is there, as is the exit code."""
    returned, run = play(shared_server, tmp_path, kind)
    assert returned == code
    assert f"{run.info.status}: {run.data.tags['trackside.end.reason']}".startswith(end)
    history = MlflowClient(shared_server.url).get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [*range(20)]


def test_a_forked_child_adds_points_and_decides_nothing(shared_server: MlflowServer, tmp_path: Path) -> None:
    """The run's owner is the parent, whatever the child says of the run."""
    returned, run = play(shared_server, tmp_path, "forked")
    assert (returned, run.info.status) == (0, "FINISHED")
    assert {"loss", "acc", "child", "after"} == set(run.data.metrics)


@pytest.mark.parametrize(
    ("kind", "status", "metrics"),
    [
        ("left alone", "RUNNING", set()),
        ("logged into", "FINISHED", {"loss"}),
        ("for a worker", "FINISHED", {"loss"}),
        ("beside an owner", "FINISHED", {"loss", "mine"}),
    ],
)
def test_a_run_of_the_client_belongs_to_the_first_process_that_logs_into_it(
    shared_server: MlflowServer, tmp_path: Path, kind: str, status: str, metrics: set[str]
) -> None:
    """Its creator may only hand the id on. While an owner lives, others add points and decide nothing."""
    returned, run = play(shared_server, tmp_path, kind, "created")
    assert (returned, run.info.status) == (0, status)
    assert set(run.data.metrics) == metrics


@pytest.mark.parametrize("kind", ["activated", "mlflow first", "by its id"])
def test_two_layers_of_ours_are_one_run(shared_server: MlflowServer, tmp_path: Path, kind: str) -> None:
    """``start()`` under the variable and MLflow's own API log into one run, which ends once."""
    returned, run = play(shared_server, tmp_path, kind, "both")
    assert (returned, run.info.status) == (0, "FINISHED")
    assert run.data.metrics == {"ours": 1.0, "theirs": 1.0}
    assert run.data.params == {"lr": "0.1", "p": "1"}
