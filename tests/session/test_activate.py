"""``run.activate()`` where there is no run to make active, and what it puts back."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.ends.harness import new_database
from tests.support.program import run_python

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process

FLUENT = """
import os, sys
import trackside

run = trackside.start("fluent").activate()
import mlflow
mlflow.log_text("text", "note.txt")
mlflow.log_artifact(__file__)
mlflow.log_artifacts("files", "folder")
mlflow.log_dict({"a": 1}, "a.json")
mlflow.log_table({"a": [1]}, "table.json")
mlflow.log_param("lr", 0.1)
mlflow.log_params({"a": 1, "b": 2})
mlflow.log_metric("loss", 0.5, step=1)
mlflow.log_metrics({"loss": 0.25}, step=2)
mlflow.log_metrics({"loss": 0.25}, step=3, synchronous=False).wait()
mlflow.set_tag("team", "vision")
mlflow.set_experiment("another")
mlflow.set_experiment_tag("a", "b")
with mlflow.start_run(nested=True) as nested:
    mlflow.log_metric("inner", 1.0)
with mlflow.start_span("span"):
    pass
class Model(mlflow.pyfunc.PythonModel):
    def predict(self, context, model_input: list[str]) -> list[str]:
        return model_input
mlflow.pyfunc.log_model(
    name="model", python_model=Model(), registered_model_name="registered", pip_requirements=[]
)
assert mlflow.get_run(mlflow.active_run().info.run_id).info.status == "RUNNING"
assert mlflow.search_runs(output_format="list") == []
assert os.environ.get("MLFLOW_TRACKING_URI") == sys.argv[1], "a process started from here logs for itself"
if sys.argv[2:] == ["end"]:
    mlflow.end_run()
trackside.log({"loss": 0.5}, step=1)
if sys.argv[2:] != ["leave"]:
    run.finish()
    assert mlflow.active_run() is None
    assert mlflow.get_tracking_uri() == sys.argv[1]
    assert os.environ.get("MLFLOW_EXPERIMENT_ID") is None
"""


@pytest.mark.parametrize(
    ("environment", "how"),
    [
        ({"TRACKSIDE_MODE": "disabled"}, "finish"),
        ({"RANK": "1"}, "leave"),
        ({"TRACKSIDE_MODE": "offline"}, "end"),
    ],
    ids=["disabled", "another rank", "offline"],
)
def test_mlflows_own_api_works_and_leaves_nothing(
    environment: dict[str, str], how: str, tmp_path: Path
) -> None:
    """No store, no folder. Offline one warning says what is not kept, and trackside's journal is there."""
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "weights").write_text("1")
    (tmp_path / "train.py").write_text(FLUENT)
    before = {path.name for path in tmp_path.iterdir()}
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    done = run_python(
        "train.py", uri, how, cwd=tmp_path, env={**os.environ, "MLFLOW_TRACKING_URI": uri, **environment}
    )
    assert done.returncode == 0, done.stderr
    offline = environment.get("TRACKSIDE_MODE") == "offline"
    assert done.stderr.count("what you log through mlflow.* is not kept") == offline
    left = {path.name for path in tmp_path.iterdir()} - before
    assert left == ({".trackside"} if offline else set())


NESTED = """
import os, mlflow, trackside
mlflow.set_tracking_uri(os.environ["STORE"])
os.environ.pop("MLFLOW_TRACKING_URI", None)
with mlflow.start_run(run_name="outer") as outer:
    run = trackside.start("outer", tracking_uri=os.environ["STORE"], run_name="ours").activate()
    assert mlflow.active_run().info.run_id == run.run_id
    mlflow.log_text("text", "note.txt")
    run.finish("FAILED")
    assert mlflow.active_run().info.run_id == outer.info.run_id
    assert mlflow.get_tracking_uri() == os.environ["STORE"]
    assert "MLFLOW_TRACKING_URI" not in os.environ
    print(mlflow.get_run(outer.info.run_id).info.status, mlflow.get_run(run.run_id).info.status)
print(mlflow.get_run(outer.info.run_id).info.status)
"""


def test_only_our_own_run_is_taken_off_again(tmp_path: Path) -> None:
    """The run that was active before is active again, with the address it was logged to."""
    uri = new_database(tmp_path)
    done = run_python("-c", NESTED, cwd=tmp_path, STORE=uri)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-3:] == ["RUNNING", "FAILED", "FINISHED"]


SILENT = """
import trackside
run = trackside.start("silent", tracking_uri="http://127.0.0.1:9").activate()
import mlflow
mlflow.log_metric("loss", 0.5)
trackside.log({"loss": 0.5}, step=1)
run.finish()
print(run._assembly.shipper.pid)
"""


def test_a_server_that_does_not_answer(tmp_path: Path) -> None:
    """A warning instead of an error in the training, and nothing waits longer than it was going to."""
    environment = {**os.environ, "TRACKSIDE_START_TIMEOUT": "0.5", "TRACKSIDE_EXIT_TIMEOUT": "0"}
    done = run_python("-c", SILENT, cwd=tmp_path, env=environment)
    os.kill(int(done.stdout.split()[-1]), signal.SIGTERM)  # it would go on trying for an hour
    assert done.stderr.count("the run has no id yet, since the server has not answered") == 1
