"""A second MLflow server beside the run's own."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

import trackside
from tests.ends.harness import new_database
from tests.faults.fake import until
from tests.faults.proxy import free_port
from tests.parts import journal_of, parts_of
from trackside.destinations.mlflow.tags import counts_in
from trackside.journal.files import read_json
from trackside.journal.meta import Meta

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import Run as MlflowRun

pytestmark = pytest.mark.process


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two stores with their tables made, and no variables of the developer's."""
    for name in ("own", "second"):
        (tmp_path / name).mkdir()
        new_database(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/own/mlflow.db")
    monkeypatch.setenv("TRACKSIDE_EXIT_TIMEOUT", "60")
    return tmp_path


def only_run(store: Path, experiment: str) -> MlflowRun:
    """The one run of the experiment there."""
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    (run,) = client.search_runs([found.experiment_id])
    return run


def status_in(store: Path, experiment: str) -> str | None:
    """Of the one run of the experiment there. None as long as there is none."""
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    found = client.get_experiment_by_name(experiment)
    runs = [] if found is None else client.search_runs([found.experiment_id])
    return runs[0].info.status if runs else None


def steps(store: Path, run: MlflowRun) -> list[int]:
    """Of the metric ``loss``."""
    client = MlflowClient(f"sqlite:///{store}/mlflow.db")
    return sorted(point.step for point in client.get_metric_history(run.info.run_id, "loss"))


def test_both_have_everything(place: Path) -> None:
    """Points, params, the configuration as an artifact, the status. What is not given is as on its own."""
    second = {"type": "mlflow", "tracking_uri": "sqlite:///second/mlflow.db", "experiment_name": "copies"}
    with trackside.start("originals", run_name="baseline", config={"lr": 0.1}, destinations=[second]):
        for step in range(100):
            trackside.log({"loss": 1 / (step + 1)}, step=step)
    for store, experiment in (("own", "originals"), ("second", "copies")):
        run = only_run(place / store, experiment)
        assert (run.info.status, run.info.run_name) == ("FINISHED", "baseline")
        assert run.data.params == {"lr": "0.1"}
        assert counts_in(run.data.tags)["shipped"] == 100
        assert steps(place / store, run) == list(range(100))
        client = MlflowClient(f"sqlite:///{place / store}/mlflow.db")
        assert [file.path for file in client.list_artifacts(run.info.run_id)] == ["config.yaml"]
    until(lambda: not (place / ".trackside").exists())  # the shipper tidies up behind the run


def test_a_resumed_training_goes_on_with_both_runs(place: Path) -> None:
    """Each server's run is remembered beside the checkpoints."""
    second = {"type": "mlflow", "tracking_uri": f"sqlite:///{place}/second/mlflow.db"}
    for first in (0, 10):
        run = trackside.start("resumed", checkpoint_dir="checkpoints", destinations=[second])
        for step in range(first, first + 10):
            trackside.log({"loss": 1.0}, step=step)
        run.finish("FAILED")
        until(lambda: not (place / ".trackside").exists())  # both servers know the end
    for store in ("own", "second"):
        assert steps(place / store, only_run(place / store, "resumed")) == list(range(20))


def test_one_that_is_down_delays_nothing_and_keeps_no_secret(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run's own server has it all at once, and the end as well. The journal waits, without a password."""
    monkeypatch.setenv("TRACKSIDE_EXIT_TIMEOUT", "3")
    address = f"http://me:hunter2@127.0.0.1:{free_port()}"
    begun = time.monotonic()
    run = trackside.start("alone", destinations=[{"type": "mlflow", "tracking_uri": address}])
    trackside.log({"loss": 1.0}, step=0)
    assert not run.flush(3), "the second has not got it"
    meta = read_json(journal_of(run).meta, Meta)
    assert meta is not None
    assert meta.destinations[0].options == {"tracking_uri": address.replace("me:hunter2", "***")}
    run.finish()
    assert time.monotonic() - begun < 60
    until(lambda: status_in(place / "own", "alone") == "FINISHED", 90)  # after the wait, if it is busy
    held = [
        path for path in journal_of(run).path.rglob("*") if path.is_file() and b"hunter2" in path.read_bytes()
    ]
    assert held == []
    pid = parts_of(run).shipper.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)  # it would go on for an hour
