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
from tests.unchanged.pages import pages_of
from tests.unchanged.play import environment_of

if TYPE_CHECKING:
    from mlflow.entities import Run

    from tests.faults.servers import MlflowServer

pytestmark = pytest.mark.process

PROGRAM = Path(__file__).parent / "programs" / "pages.py"


@dataclass
class Played:
    """What came of the program: its output, its runs, and everything that MLflow shows of its experiment."""

    said: str
    runs: list[Run]
    page: dict[str, Any]
    folder: Path


def play(server: MlflowServer, folder: Path, prefix: str) -> Played:
    """Play the program in an experiment of its own."""
    name = f"pages {prefix}"
    done = run_python(
        PROGRAM,
        str(folder),
        name,
        cwd=folder,
        env=environment_of(folder, f"{prefix}{server.url}"),
        TRACKSIDE_DESTINATIONS="jsonl:path=lines/{experiment_name}/{run_name}.jsonl",
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    if prefix:
        wait_until_delivered(folder / "journals")
    client = MlflowClient(server.url)
    experiment = client.get_experiment_by_name(name)
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL)
    page = pages_of(server.url, folder / "read back", name)["experiments"][name]
    return Played(done.stdout, [*runs], page, folder)


@pytest.fixture(scope="module")
def stock(shared_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The program as it is."""
    return play(shared_server, tmp_path_factory.mktemp("stock"), "")


@pytest.fixture(scope="module")
def ours(shared_server: MlflowServer, tmp_path_factory: pytest.TempPathFactory) -> Played:
    """The program with the variable changed."""
    return play(shared_server, tmp_path_factory.mktemp("ours"), "journal+")


def test_the_pages_are_the_same(stock: Played, ours: Played) -> None:
    """Status, params, tags, parents, every point of every metric, and every file."""
    assert ours.page == stock.page


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
    assert all("journal+" not in str(run.info.artifact_uri) for run in ours.runs)
