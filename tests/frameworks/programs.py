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
            "TRACKSIDE_EXIT_TIMEOUT": "120",
            "OMP_NUM_THREADS": "1",
        }

    def run(
        self, program: str, *, before: tuple[str, ...] = (), code: int | None = 0, **environment: str
    ) -> str:
        """Run ``program`` and return what it printed. It has to leave with ``code``, if that is not None."""
        path = self.directory / "program.py"
        path.write_text(textwrap.dedent(program), "utf-8")
        done = subprocess.run(
            [sys.executable, *before, str(path)],
            cwd=self.directory,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert code is None or done.returncode == code, (
            f"exit code {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done.stdout + done.stderr

    def runs(self, experiment: str) -> list[Run]:
        """The runs of an experiment, the oldest first, once everything is delivered."""
        wait_until_delivered(self.journals, 120)
        assert not list(self.journals.glob("*/meta.json")), "not everything was delivered"
        found = self.client.get_experiment_by_name(experiment)
        assert found is not None, [e.name for e in self.client.search_experiments()]
        return [*self.client.search_runs([found.experiment_id], order_by=["attributes.start_time"])]

    def only_run(self, experiment: str) -> Run:
        """The run of an experiment that has one."""
        runs = self.runs(experiment)
        assert len(runs) == 1, runs
        return runs[0]

    def end(self, experiment: str) -> tuple[str, str]:
        """Status and reason of the only run."""
        run = self.only_run(experiment)
        return run.info.status, run.data.tags.get("trackside.end.reason", "")

    def points(self, run: Run) -> dict[str, list[tuple[int, float]]]:
        """Step and value of a run's points, by name. MLflow keeps equal points of a millisecond once."""
        run_id = run.info.run_id
        return {
            key: sorted({(m.step, round(m.value, 6)) for m in self.client.get_metric_history(run_id, key)})
            for key in sorted(run.data.metrics)
        }
