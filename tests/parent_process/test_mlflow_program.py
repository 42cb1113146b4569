"""A program that knows MLflow only, as process 1's child: its end is right in MLflow."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.container import COMMAND, can_make_container
from tests.ends.harness import new_database, only_run

if TYPE_CHECKING:
    from tests.parent_process.family import Family

pytestmark = pytest.mark.process

PROGRAM = """
import ctypes, os, sys
import mlflow
with mlflow.start_run():
    mlflow.log_param("lr", 0.1)
    for step in range(20):
        mlflow.log_metrics({"loss": 1.0 / (step + 1)}, step=step)
    exec(sys.argv[1])
"""

ENDS = {
    "pass": (0, "FINISHED"),
    "sys.exit(3)": (3, "FAILED"),
    "os.kill(os.getpid(), 9)": (-9, "FAILED"),
    "ctypes.string_at(0)": (-11, "FAILED"),
}

BEFORE = COMMAND if can_make_container() else ()


@pytest.mark.parametrize("how", ENDS)
def test_ends_of_a_program_that_calls_mlflow(how: str, family: Family) -> None:
    """In a container where one can be made. Exit codes and signals are kept, and the shipper finishes."""
    uri, (code, status) = new_database(family.place), ENDS[how]
    options = ("--tracking-uri", uri, "--experiment", "ends", "--name", "ours", "--grace", "3m")
    process = family.start(
        sys.executable, family.script(PROGRAM), how, options=options, before=BEFORE, stderr=None
    )
    process.communicate(timeout=280)
    assert process.returncode == (128 - code if code < 0 and BEFORE else code)
    assert not list(family.journals.iterdir())
    run = only_run(uri)
    assert run is not None
    assert (run.info.run_name, run.info.status, run.data.params) == ("ours", status, {"lr": "0.1"})
    client = MlflowClient(uri)
    assert client.get_experiment(run.info.experiment_id).name == "ends"
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 20
