"""Several processes that write to one run, as real processes: who says how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import PREAMBLE, new_database
from tests.faults.fake import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.process

TRAINING = """
import logging
logging.basicConfig(level=logging.INFO)
run = trackside.start("shared", config={NAME: 1})
print(run.run_id, flush=True)
for line in sys.stdin:
    exec(line)
"""
"""Starts, says the run's id, and does what it is told, a line at a time."""


class Writer:
    """A training process that does what it is told."""

    def __init__(self, place: Path, name: str, **environment: str) -> None:
        self.log = place / f"{name}.log"
        script = place / f"{name}.py"
        script.write_text(PREAMBLE + f"NAME = {name!r}" + TRAINING)
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, str(script)],
                cwd=place,
                env={
                    **os.environ,
                    "TRACKSIDE_DIR": str(place / "journals"),
                    "TRACKSIDE_START_TIMEOUT": "60",
                    "MLFLOW_TRACKING_URI": f"sqlite:///{place}/mlflow.db",
                    "CASE_CONFIRMED": str(place / f"{name}.confirmed"),
                    **environment,
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                text=True,
            )
        assert self.process.stdout is not None
        self.run_id = self.process.stdout.readline().strip()
        assert self.run_id, self.log.read_text()

    def do(self, line: str) -> None:
        """Have it run ``line``."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def end(self, line: str = "") -> int:
        """Have it run ``line`` and leave. Its exit code."""
        self.process.communicate(f"{line}\n" if line else None, timeout=120)
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL it."""
        self.process.send_signal(signal.SIGKILL)
        self.process.communicate(timeout=60)


def all_delivered(place: Path) -> bool:
    """Whether no journal is left."""
    return not any((place / "journals").glob("*/meta.json"))


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Path]:
    """A folder with an empty store, whose journals are all delivered in the end."""
    new_database(tmp_path)
    yield tmp_path
    until(lambda: all_delivered(tmp_path), 120)


def test_an_evaluation_beside_a_training_leaves_its_end_alone(place: Path) -> None:
    """It ends first, and the training, which crashes later, is FAILED, with the points of both."""
    store = MlflowClient(f"sqlite:///{place}/mlflow.db")
    training = Writer(place, "training")
    training.do("emit(10)")
    evaluation = Writer(place, "evaluation", MLFLOW_RUN_ID=training.run_id)
    assert evaluation.run_id == training.run_id
    evaluation.do("run.activate()")  # MLflow's own end of its active run must not be the run's
    assert evaluation.end("trackside.log({'accuracy': 0.5}, step=9)") == 0
    until(lambda: "accuracy" in store.get_run(training.run_id).data.metrics, 60)
    assert store.get_run(training.run_id).info.status == "RUNNING"
    assert training.end("emit(10, start=10); raise ValueError('diverged')") == 1
    until(lambda: store.get_run(training.run_id).info.status != "RUNNING", 60)
    run = store.get_run(training.run_id)
    assert run.info.status == "FAILED"
    assert run.data.tags["trackside.end.reason"] == "ValueError: diverged"
    assert run.data.params == {"training": "1", "evaluation": "1"}
    assert "training.py" in run.data.tags["mlflow.source.name"]
    assert len(store.get_metric_history(training.run_id, "loss")) == 20
    assert f"adding to run {training.run_id} " in evaluation.log.read_text()
    assert "has taken run" not in training.log.read_text()


def test_a_training_restarted_after_a_kill_owns_the_run(place: Path) -> None:
    """Its heartbeat is seconds old, but its process is dead. An evaluation that runs on stays secondary."""
    store = MlflowClient(f"sqlite:///{place}/mlflow.db")
    first = Writer(place, "first")
    first.do("emit(10)")
    evaluation = Writer(place, "evaluation", MLFLOW_RUN_ID=first.run_id, TRACKSIDE_QUIET="off")
    first.kill()
    second = Writer(place, "second", MLFLOW_RUN_ID=first.run_id)
    assert f"resuming run {first.run_id} " in second.log.read_text()
    assert evaluation.end("raise ValueError('of the evaluation')") == 1
    told = evaluation.log.read_text()
    assert "logged run " in told  # the status is not the evaluation's to tell
    assert " is FAILED" not in told
    assert second.end("emit(10, start=10)") == 0
    until(lambda: all_delivered(place), 60)
    run = store.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["trackside.end.reason"] == "exit code 0"
    assert len(store.get_metric_history(first.run_id, "loss")) == 20
    names = [artifact.path for artifact in store.list_artifacts(first.run_id)]
    assert "traceback.txt" not in names
    assert any(name.startswith("traceback.") for name in names)
