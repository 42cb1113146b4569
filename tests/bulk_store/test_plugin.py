"""MLflow finds the bulk store by its address, and its own store does what the bulk store does not."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.entities import Metric
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from trackside.bulk_store import plugin
from trackside.bulk_store.store import BulkStore
from trackside.bulk_store.uri import can_be_bulk, plain_uri
from trackside.bulk_store.versions import FIRST_UNKNOWN, why_unsupported

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NEXT = f"{FIRST_UNKNOWN}.0"


@pytest.fixture
def uri(tmp_path: Path) -> str:
    """An address for MLflow."""
    return f"trackside+{new_database(tmp_path)}"


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """What we log, also when MLflow 3.6 takes the handlers from the root, as it does making tables."""
    logger = logging.getLogger("trackside")
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


def test_a_client_finds_it_by_the_address(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The entry points are installed; what was written is read through MLflow's own store too."""
    written = []

    def write(store, run_id, rows):
        written.append((run_id, rows))
        return True

    monkeypatch.setattr(BulkStore, "_write", write)
    client = MlflowClient(uri)
    run_id = client.create_run("0").info.run_id
    client.log_batch(run_id, [Metric("loss", 0.5, 1, 1)])
    monkeypatch.undo()
    assert written == [(run_id, [("loss", 1, 1, 0.5, False, run_id)])]
    client.log_batch(run_id, [Metric("loss", 0.5, 1, 1)])
    client.log_metric(run_id, "loss", 0.25, timestamp=2, step=2)
    for reader in (client, MlflowClient(plain_uri(uri))):
        assert reader.get_run(run_id).data.metrics == {"loss": 0.25}
        assert [point.step for point in reader.get_metric_history(run_id, "loss")] == [1, 2]


def test_the_model_registry_works(uri: str) -> None:
    """In the same database, as with MLflow's own address."""
    client = MlflowClient(uri)
    run_id = client.create_run("0").info.run_id
    client.create_registered_model("digits")
    client.create_model_version("digits", "/nowhere/model", run_id)
    versions = MlflowClient(plain_uri(uri)).search_model_versions("name = 'digits'")
    assert [version.run_id for version in versions] == [run_id]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("ALTER TABLE metrics ADD COLUMN unit VARCHAR(20)", "the table metrics is not the one it knows"),
        ("ALTER TABLE latest_metrics RENAME COLUMN is_nan TO nan", "the table latest_metrics is not"),
    ],
)
def test_tables_it_does_not_know_are_left_to_mlflow(
    uri: str, change: str, reason: str, heard: pytest.LogCaptureFixture
) -> None:
    """One line in the log says so."""
    before = BulkStore(uri, "/nowhere")
    assert before.is_bulk
    with before.engine.begin() as connection:
        connection.exec_driver_sql(change)
    with heard.at_level(logging.WARNING, "trackside"):
        store = BulkStore(uri, "/nowhere")
    (message,) = {record.getMessage() for record in heard.records if record.name.startswith("trackside")}
    assert reason in message
    assert not store.is_bulk


@pytest.mark.parametrize("version", ["3.5.1", NEXT, "unheard of"])
def test_a_version_it_does_not_know_is_left_to_mlflow(
    uri: str, version: str, monkeypatch: pytest.MonkeyPatch, heard: pytest.LogCaptureFixture
) -> None:
    """The store is MLflow's own then, and takes any number of points all the same."""
    monkeypatch.setattr(mlflow, "__version__", version)
    monkeypatch.setattr(BulkStore, "_write", None)
    store = BulkStore(uri, "/nowhere")
    (line,) = {record.getMessage() for record in heard.records if record.name.startswith("trackside")}
    assert "bulk store is off" in line
    assert str(why_unsupported(version)) in line
    run_id = store.create_run("0", "tester", 1, [], "a run").info.run_id
    store.log_batch(run_id, [Metric("loss", 0.5, 1, 1)], [], [])
    store.log_points(run_id, [("loss", 0.5, 1, step) for step in range(1500)])
    assert len(store.get_metric_history(run_id, "loss")) == 1500


def test_workspaces_are_mlflows(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """With workspaces on, both stores are MLflow's, which keep them apart."""
    pytest.importorskip("mlflow.store.tracking.sqlalchemy_workspace_store")
    monkeypatch.setenv("MLFLOW_ENABLE_WORKSPACES", "true")
    store = plugin.tracking_store(uri)
    assert isinstance(store, SqlAlchemyStore)
    assert not isinstance(store, BulkStore)
    assert type(plugin.model_registry_store(uri)).__name__ == "WorkspaceAwareSqlAlchemyStore"


def test_addresses() -> None:
    """Ours is the database's own with a word before it."""
    assert can_be_bulk("sqlite:////data/mlflow.db")
    assert can_be_bulk("trackside+postgresql+psycopg2://host/db")
    assert not can_be_bulk("mysql://host/db")
    assert not can_be_bulk("http://host:5000")
    assert not can_be_bulk("sqlite-folder")
    assert plain_uri("trackside+sqlite:///a.db") == plain_uri("sqlite:///a.db") == "sqlite:///a.db"
