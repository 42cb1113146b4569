"""A training in a process of its own, which delivers to a recorder or to an MLflow store."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

from mlflow.tracking import MlflowClient

from tests.ends.harness import PREAMBLE, new_database, wait_until_delivered, wait_until_settled
from tests.support import recorder
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json
from trackside.journal.meta import State

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import Run

DEADLINE = 60.0


def wait_for(condition, timeout: float = DEADLINE) -> None:
    """Wait until ``condition()`` holds."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class Job:
    """A training process with a recorder, or an MLflow store, and with journals of its own."""

    def __init__(self, directory: Path, *, on_mlflow: bool = False) -> None:
        self.directory = directory
        self.records = directory / "records"
        self.uri = new_database(directory) if on_mlflow else ""
        self.journals = directory / "journals"
        self.environment = {
            **os.environ,
            **({"MLFLOW_TRACKING_URI": self.uri} if on_mlflow else recorder.environment(self.records)),
            "TRACKSIDE_DIR": str(self.journals),
            "CASE_CONFIRMED": str(directory / "confirmed"),
            "PYTHONUNBUFFERED": "1",
        }

    def train(self, script: str, **environment: str) -> subprocess.Popen[bytes]:
        """Start a training process."""
        path = self.directory / f"train-{time.monotonic_ns()}.py"
        path.write_text(("" if self.uri else recorder.IN_A_SCRIPT) + PREAMBLE + script)
        with (self.directory / "stderr").open("ab") as stderr:
            return subprocess.Popen(
                [sys.executable, str(path)],
                env={**self.environment, **environment},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``trackside`` with ``arguments``."""
        return subprocess.run(
            [sys.executable, "-m", "trackside", *arguments],
            env=self.environment,
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def journal(self) -> JournalDirectory:
        """The only journal, once it is there."""
        wait_for(lambda: len(list(self.journals.glob("*/meta.json"))) == 1)
        return JournalDirectory(next(self.journals.glob("*/meta.json")).parent)

    def shipper(self, phase: str = "shipping") -> int:
        """Process number of the shipper, once it is in ``phase``."""
        journal = self.journal()
        wait_for(lambda: (state := read_json(journal.state, State)) is not None and state.phase == phase)
        state = read_json(journal.state, State)
        assert state is not None
        return state.pid

    def check(self, status: str, points: int) -> None:
        """Wait for the delivery: the only run has ``status``, and steps 0 to ``points`` - 1 once each."""
        wait_until_delivered(self.journals)
        assert not list(self.journals.glob("*/meta.json")), (self.directory / "stderr").read_text()
        if self.uri:
            run = self.in_mlflow()
            seen = run.info.status, self.steps_in_mlflow(run)
        else:
            recorded = recorder.only_run(self.records)
            seen = recorded.status, recorded.steps("loss")
        assert seen == (status, Counter(range(points)))

    def steps_in_mlflow(self, run: Run) -> Counter[int]:
        """How often each step is in the run."""
        history = MlflowClient(self.uri).get_metric_history(run.info.run_id, "loss")
        return Counter(metric.step for metric in history)

    def in_mlflow(self) -> Run:
        """The only run of the store."""
        run = wait_until_settled(self.uri, self.journals)
        assert run is not None
        return run
