"""Programs of a framework's users: each runs in a process of its own and delivers to a store of MLflow's."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.tracking import MlflowClient

from tests.ends.harness import wait_until_delivered

if TYPE_CHECKING:
    from mlflow.entities import Run

REPOSITORY = Path(__file__).parents[2]
DEADLINE = 280.0


class Programs:
    """Runs programs in ``directory``, with the store at ``uri``."""

    def __init__(self, directory: Path, uri: str) -> None:
        self.directory, self.uri = directory, uri
        self.journals = directory / "journals"
        self.client = MlflowClient(uri)
        self.environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "PYTHONPATH": str(REPOSITORY),
            "TRACKSIDE_DIR": str(self.journals),
            "TRACKSIDE_START_TIMEOUT": "100",
            "TRACKSIDE_EXIT_TIMEOUT": "120",
            "OMP_NUM_THREADS": "1",
        }

    def run(
        self,
        program: str,
        *arguments: str,
        before: tuple[str, ...] = (),
        code: int | None = 0,
        **environment: str,
    ) -> str:
        """Run ``program`` and return what it printed. It has to leave with ``code``, if that is not None."""
        done = subprocess.run(
            self._command(program, before, arguments),
            cwd=self.directory,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
        assert code is None or done.returncode == code, (
            f"exit code {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done.stdout + done.stderr

    def kill_when_it_says(self, word: str, program: str, *arguments: str) -> None:
        """Run ``program``, and kill it when it prints ``word``."""
        with subprocess.Popen(
            self._command(program, (), arguments),
            cwd=self.directory,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.strip() == word:
                    break
            process.kill()

    def _command(self, program: str, before: tuple[str, ...], arguments: tuple[str, ...]) -> list[str]:
        path = self.directory / "program.py"
        path.write_text(textwrap.dedent(program), "utf-8")
        return [sys.executable, *before, str(path), *arguments]

    def runs(self, experiment: str) -> list[Run]:
        """The runs of an experiment, the oldest first, once everything is delivered."""
        wait_until_delivered(self.journals, 120)
        assert not list(self.journals.glob("*/meta.json")), "not everything was delivered"
        found = self.client.get_experiment_by_name(experiment)
        assert found is not None, [e.name for e in self.client.search_experiments()]
        order = ["attributes.start_time"]
        return list(self.client.search_runs([found.experiment_id], max_results=1000, order_by=order))

    def runs_by_name(self, experiment: str) -> dict[str, Run]:
        """The same runs, each with a name of its own."""
        runs = self.runs(experiment)
        by_name = {str(run.info.run_name): run for run in runs}
        assert len(by_name) == len(runs)
        return by_name

    def only_run(self, experiment: str) -> Run:
        """The run of an experiment that has one."""
        runs = self.runs(experiment)
        assert len(runs) == 1, runs
        return runs[0]

    def end(self, experiment: str) -> tuple[str, str]:
        """Status and reason of the only run."""
        run = self.only_run(experiment)
        return run.info.status, run.data.tags.get("trackside.end.reason", "")

    def history(self, run: Run, metric: str) -> list[tuple[int, float]]:
        """Step and value of each point of a metric."""
        return sorted((m.step, m.value) for m in self.client.get_metric_history(run.info.run_id, metric))

    def points(self, run: Run) -> dict[str, list[tuple[int, float]]]:
        """Step and value of a run's points, by name. MLflow keeps equal points of a millisecond once."""
        return {
            key: sorted({(step, round(value, 6)) for step, value in self.history(run, key)})
            for key in sorted(run.data.metrics)
        }


def parent_of(run: Run) -> str | None:
    """The id of the run that it is nested under."""
    return run.data.tags.get("mlflow.parentRunId")
