"""Two processes send the same points of one run at once, in orders of their own, to one sqlite file."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import BAD_REQUEST, TEMPORARILY_UNAVAILABLE

from tests.bulk_store.writers import write_at_once
from tests.ends.harness import new_database
from trackside.bulk_store.store import BulkStore

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process


@pytest.mark.parametrize("other", ["trackside+", pytest.param("", id="MLflow's own")])
def test_two_writers(tmp_path: Path, other: str) -> None:
    """Each point is there once, whoever came first; the latest are the latest of both."""
    uri = new_database(tmp_path)
    run_id = BulkStore(uri, "/nowhere").create_run("0", "tester", 1, [], "a run").info.run_id
    write_at_once(uri, run_id, [f"trackside+{uri}", f"{other}{uri}"])


@pytest.mark.parametrize("times", [3, 4])
def test_a_deadlock_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """As often as MLflow tries; then it is the caller's."""
    store = BulkStore(new_database(tmp_path), "/nowhere")
    run_id = store.create_run("0", "tester", 1, [], "a run").info.run_id
    write = BulkStore._write_once
    pauses: list[float] = []
    clashes: list[object] = []

    def clash(store, run_id, rows):
        if len(clashes) < times:
            clashes.append(rows)
            raise MlflowException("(DeadlockDetected) deadlock detected", TEMPORARILY_UNAVAILABLE)
        return write(store, run_id, rows)

    monkeypatch.setattr("trackside.bulk_store.store.time.sleep", pauses.append)
    monkeypatch.setattr(BulkStore, "_write_once", clash)
    if times > 3:
        with pytest.raises(MlflowException, match="deadlock detected"):
            store.log_points(run_id, [("loss", 1.0, 1, 1)])
    else:
        store.log_points(run_id, [("loss", 1.0, 1, 1)])
        assert len(store.get_metric_history(run_id, "loss")) == 1
    assert len(pauses) == 3


@pytest.mark.parametrize(
    ("text", "code"), [("deadlock detected", BAD_REQUEST), ("database is locked", TEMPORARILY_UNAVAILABLE)]
)
def test_other_errors_are_the_callers_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, code: int
) -> None:
    """A lock has been waited for already; the shipper has its own patience."""
    store = BulkStore(new_database(tmp_path), "/nowhere")

    def fail(*given):
        raise MlflowException(text, code)

    monkeypatch.setattr(BulkStore, "_write_once", fail)
    monkeypatch.setattr("trackside.bulk_store.store.time.sleep", None)
    with pytest.raises(MlflowException, match=text):
        store.log_points("0" * 32, [("loss", 1.0, 1, 1)])
