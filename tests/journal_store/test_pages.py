"""The same program with and without ``journal+``: MLflow has the same pages, and the program reads it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from tests.ends.harness import wait_until_delivered
from tests.support.program import run_python
from trackside.destinations.mlflow.tags import without_end

if TYPE_CHECKING:
    from mlflow.entities import Run

    from tests.faults.servers import MlflowServer

pytestmark = pytest.mark.process

PROGRAM = Path(__file__).parent / "programs" / "pages.py"


@dataclass
class Played:
    """What came of the program: its output, and its runs by name."""

    uri: str
    said: str
    runs: dict[str, Run]
    folder: Path


def play(server: MlflowServer, folder: Path, prefix: str) -> Played:
    """Play the program in an experiment of its own."""
    name = f"pages {prefix}"
    done = run_python(
        PROGRAM,
        str(folder),
        name,
        cwd=folder,
        MLFLOW_TRACKING_URI=f"{prefix}{server.url}",
        MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true",
        TRACKSIDE_DIR=str(folder / "journals"),
        TRACKSIDE_DESTINATIONS="jsonl:path=lines/{experiment_name}/{run_name}.jsonl",
        TRACKSIDE_EXIT_TIMEOUT="120",
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    if prefix:
        wait_until_delivered(folder / "journals")
    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    return Played(server.url, done.stdout, {str(run.info.run_name): run for run in runs}, folder)


@pytest.fixture(scope="module")
def stock(shared_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The program as it is."""
    return play(shared_server, tmp_path_factory.mktemp("stock"), "")


@pytest.fixture(scope="module")
def ours(shared_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The program with the variable changed."""
    return play(shared_server, tmp_path_factory.mktemp("ours"), "journal+")


def page(played: Played, run: Run) -> dict[str, Any]:
    """What MLflow shows of a run, without times, ids and what trackside adds."""
    client, run_id = MlflowClient(played.uri), run.info.run_id
    names = {one.info.run_id: name for name, one in played.runs.items()}
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith("trackside.")}
    parent = tags.pop("mlflow.parentRunId", None)
    tags["mlflow.note.content"] = without_end(tags.get("mlflow.note.content", ""))
    return {
        "status": run.info.status,
        "ended": bool(run.info.end_time),
        "params": run.data.params,
        "tags": tags,
        "parent": None if parent is None else names[parent],
        "metrics": {
            key: sorted((point.step, str(point.value)) for point in client.get_metric_history(run_id, key))
            for key in run.data.metrics
        },
        "files": sorted(file for file in files_of(client, run_id) if not file.startswith("trackside/")),
    }


def files_of(client: MlflowClient, run_id: str, folder: str | None = None) -> list[str]:
    """Every artifact of a run."""
    found = []
    for file in client.list_artifacts(run_id, folder):
        found += files_of(client, run_id, file.path) if file.is_dir else [file.path]
    return found


def test_the_pages_are_the_same(stock: Played, ours: Played) -> None:
    """Status, params, tags, parents, every point of every metric, and every file."""
    assert {name: page(ours, run) for name, run in ours.runs.items()} == {
        name: page(stock, run) for name, run in stock.runs.items()
    }


def test_the_program_reads_and_is_refused_the_same(stock: Played, ours: Played) -> None:
    """What it wrote is there when it reads, and what MLflow does not allow raises."""
    assert ours.said == stock.said
    assert "history 30" in ours.said
    assert "found after its end [('found', 'FINISHED')]" in ours.said


def test_destinations_know_the_experiment_by_its_name(ours: Played) -> None:
    """Its folders and files are called by the name that people gave it, as with ``trackside.start()``."""
    (folder,) = [path for path in (ours.folder / "lines").iterdir() if "deleted" not in path.name]
    assert folder.name.startswith("pages")
    assert {"fluent.jsonl", "one.jsonl"} <= {file.name for file in folder.iterdir()}


def test_the_addresses_that_it_reads_are_the_real_ones(ours: Played) -> None:
    """MLflow's own tools never see the prefix."""
    assert all("journal+" not in str(run.info.artifact_uri) for run in ours.runs.values())
