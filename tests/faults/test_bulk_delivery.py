"""The shipper writes metrics to a database in bulk, and only the speed shows it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mlflow
import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.faults.delivery import delivery, once_each, steps_of
from tests.faults.fake import until
from trackside.bulk_store.store import BulkStore
from trackside.bulk_store.uri import plain_uri
from trackside.destinations.mlflow.tags import counts_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.faults.delivery import Delivery
    from tests.faults.servers import MlflowServer

COUNT = 12_000


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many rows each transaction of the bulk store was given."""
    sizes: list[int] = []
    write = BulkStore._write_once

    def spy(store: BulkStore, run_id: str, rows: list) -> bool:
        sizes.append(len(rows))
        return write(store, run_id, rows)

    monkeypatch.setattr(BulkStore, "_write_once", spy)
    return sizes


def deliver(rig: Delivery, count: int = COUNT) -> None:
    """Emit, deliver and end. Every point must be there once."""
    rig.emit(count)
    rig.deliver()
    client = MlflowClient(plain_uri(rig.uri))
    assert steps_of(client, rig.run_id) == once_each(count)
    assert client.get_run(rig.run_id).info.status == "FINISHED"
    assert counts_in(client.get_run(rig.run_id).data.tags)["shipped"] == count


@pytest.mark.parametrize("prefix", ["", "trackside+"])
def test_a_database_is_written_in_bulk(
    tmp_path: Path, journals: Path, prefix: str, written: list[int]
) -> None:
    """More than MLflow takes at once. Nothing that is shown or kept names another address."""
    uri = prefix + new_database(tmp_path)
    with delivery(journals, uri) as rig:
        rig.configure({"lr": "0.1"})
        deliver(rig)
    assert written
    assert max(written) > 1000
    assert sum(written) == COUNT
    run = MlflowClient(uri).get_run(rig.run_id)
    assert run.data.params == {"lr": "0.1"}
    if not prefix:
        kept = [path.read_bytes() for path in journals.rglob("*") if path.is_file()]
        kept.append(repr(run.to_dictionary()).encode())
        assert not any(b"trackside+" in content for content in kept)


def test_it_can_be_switched_off(
    tmp_path: Path, journals: Path, monkeypatch: pytest.MonkeyPatch, written: list[int]
) -> None:
    """By the environment: MLflow's own store then."""
    monkeypatch.setenv("TRACKSIDE_BULK_STORE", "off")
    with delivery(journals, new_database(tmp_path)) as rig:
        assert rig.destination.batch_points == 1000
        deliver(rig, 300)
    assert written == []


def test_an_mlflow_it_does_not_know(
    tmp_path: Path, journals: Path, monkeypatch: pytest.MonkeyPatch, written: list[int]
) -> None:
    """MLflow's own way, and one warning in the training's log, which passes notices on."""
    with delivery(journals, new_database(tmp_path)) as rig:
        monkeypatch.setattr(mlflow, "__version__", "3.99.0")
        deliver(rig, 3000)
        (notice,) = rig.progress.state.notices
    assert "MLflow 3.99.0 is newer than" in notice
    assert "TRACKSIDE_BULK_STORE=off" in notice
    assert rig.destination.batch_points == 1000
    assert written == []


def test_metrics_of_an_active_model(
    tmp_path: Path, journals: Path, monkeypatch: pytest.MonkeyPatch, written: list[int]
) -> None:
    """MLflow's client links them to the model that the environment names. So it is left to it."""
    uri = new_database(tmp_path)
    model = MlflowClient(uri).create_logged_model("0")
    monkeypatch.setenv("MLFLOW_ACTIVE_MODEL_ID", model.model_id)
    with delivery(journals, uri) as rig:
        deliver(rig, 20)
    assert written == []
    metrics = MlflowClient(uri).get_logged_model(model.model_id).metrics
    assert metrics is not None
    assert {(metric.key, metric.run_id) for metric in metrics} == {("loss", rig.run_id)}


def test_a_server_has_its_own_store(server: MlflowServer, journals: Path, written: list[int]) -> None:
    """It is asked as any server is (test_requests_in_flight.py), whatever is behind it."""
    with delivery(journals, server.url) as rig:
        deliver(rig, 2500)
    assert written == []


def test_a_run_deleted_midway(tmp_path: Path, journals: Path) -> None:
    """It is refused with the advice to restore it, in bulk as otherwise."""
    uri = new_database(tmp_path)
    with delivery(journals, uri) as rig:
        rig.emit(10)
        rig.worker.start()
        until(lambda: rig.worker.cursor.shipped == 10, 60)
        MlflowClient(uri).delete_run(rig.run_id)
        rig.emit(10, start=10)
        until(lambda: "Restore it (mlflow runs restore" in rig.notices, 60)
