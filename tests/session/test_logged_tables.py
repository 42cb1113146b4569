"""Texts, documents, tables and datasets: from the calls to what MLflow shows, with real parts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import PIL.Image
import pytest
import yaml
from mlflow.tracking import MlflowClient

import trackside
from tests.ends.harness import new_database, wait_until_settled
from trackside.session import plan

if TYPE_CHECKING:
    from mlflow.entities import Run


class Store:
    """A sqlite store, and what is in it."""

    def __init__(self, place: Path) -> None:
        self.uri = new_database(place)
        self.client = MlflowClient(self.uri)
        self.journals = place / "journals"

    def settled(self) -> Run:
        """The only run, when everything has arrived."""
        found = wait_until_settled(self.uri, self.journals)
        assert found is not None
        return found

    def text(self, run_id: str, name: str) -> str:
        """The contents of an artifact."""
        return Path(self.client.download_artifacts(run_id, name)).read_text("utf-8")

    def steps(self, run_id: str) -> list[int]:
        """The first column of the table."""
        return [row[0] for row in json.loads(self.text(run_id, "losses.json"))["data"]]


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """In a folder of its own."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "_env_run_ids_used", {})
    made = Store(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", made.uri)
    return made


def test_all_of_them_arrive(store: Store) -> None:
    """A thousand rows one by one, a document, a text, images in cells and a dataset.

    A flush uploads the rows so far.
    """
    with trackside.start(tracking_uri=store.uri) as run:
        run.log_text("# Notes", "notes.md")
        run.log_dict({"matrix": np.eye(2)}, "matrix.yaml")
        run.log_dataset(np.zeros((3, 2)), "train", name="zeros")
        run.log_table([{"image": PIL.Image.new("RGB", (4, 4)), "label": "cat"}], "mistakes.json")
        step = 0
        for step in range(1000):
            run.log_table({"step": step, "loss": 1 / (step + 1)}, "losses.json")
        for _ in range(3):  # although the next upload would be due later
            step += 1
            run.log_table({"step": step}, "losses.json")
            assert run.flush(120)
            assert store.steps(run.run_id or "") == list(range(step + 1))
        run.log_table({"step": step + 1}, "losses.json")
    found = store.settled()
    assert store.text(found.info.run_id, "notes.md") == "# Notes"
    assert yaml.safe_load(store.text(found.info.run_id, "matrix.yaml")) == {
        "matrix": [[1.0, 0.0], [0.0, 1.0]]
    }
    assert store.steps(found.info.run_id) == list(range(1004))
    ((cell, label),) = json.loads(store.text(found.info.run_id, "mistakes.json"))["data"]
    assert label == "cat"
    with PIL.Image.open(store.client.download_artifacts(found.info.run_id, cell["filepath"])) as image:
        assert image.size == (4, 4)
    tables = json.loads(found.data.tags["mlflow.loggedArtifacts"])
    assert {"path": "losses.json", "type": "table"} in tables
    assert found.inputs is not None
    (used,) = found.inputs.dataset_inputs
    assert (used.dataset.name, used.tags[0].value) == ("zeros", "train")
