"""Programs that train with a framework, and the runs that MLflow has afterwards."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

from mlflow.tracking import MlflowClient

from tests.ends.harness import wait_until_delivered

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import Run

PATIENCE = {"TRACKSIDE_START_TIMEOUT": "100", "TRACKSIDE_EXIT_TIMEOUT": "100", "OMP_NUM_THREADS": "1"}
DEADLINE = 200.0


class Program:
    """A script in a folder of its own, that logs to the server at ``url``."""

    def __init__(self, folder: Path, url: str, script: str, **environment: str) -> None:
        self.folder = folder
        self._url = url
        (folder / "program.py").write_text(textwrap.dedent(script), "utf-8")
        self._environment = {**os.environ, **PATIENCE, "MLFLOW_TRACKING_URI": url, **environment}

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start it. Its output is captured."""
        return subprocess.Popen(
            [sys.executable, "program.py", *arguments],
            cwd=self.folder,
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str) -> tuple[int, str, str]:
        """Run it to its end, and wait until everything is delivered: exit code, output, errors."""
        process = self.start(*arguments)
        output, errors = process.communicate(timeout=DEADLINE)
        wait_until_delivered(self.folder / ".trackside", DEADLINE)
        return process.returncode, output, errors

    def kill_when_it_says(self, word: str, *arguments: str) -> None:
        """Start it, and kill it when it prints ``word``. Wait until everything is delivered."""
        process = self.start(*arguments)
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == word:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=DEADLINE)
        wait_until_delivered(self.folder / ".trackside", DEADLINE)

    def runs(self, experiment: str) -> dict[str, Run]:
        """The runs of an experiment, by name."""
        found = self._client().get_experiment_by_name(experiment)
        assert found is not None
        runs = self._client().search_runs([found.experiment_id], max_results=1000)
        by_name = {str(run.info.run_name): run for run in runs}
        assert len(by_name) == len(runs)
        return by_name

    def points(self, run: Run, metric: str) -> list[tuple[int, float]]:
        """Step and value of each point of a metric."""
        history = self._client().get_metric_history(run.info.run_id, metric)
        return sorted((point.step, point.value) for point in history)

    def _client(self) -> MlflowClient:
        return MlflowClient(self._url)


def parent_of(run: Run) -> str | None:
    """The id of the run that it is nested under."""
    return run.data.tags.get("mlflow.parentRunId")
