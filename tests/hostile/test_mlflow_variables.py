"""MLflow's variables, set by a user for other programs, do not change what delivery promises."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.faults.delivery import delivery, once_each, steps_of
from trackside.destinations.mlflow import settings as mlflow_settings
from trackside.destinations.mlflow.settings import (
    LONGEST_TIMEOUT,
    REQUEST_TIMEOUT,
    request_timeout,
    set_variables,
)

if TYPE_CHECKING:
    from pathlib import Path

TIMEOUT = "MLFLOW_HTTP_REQUEST_TIMEOUT"


@pytest.fixture(autouse=True)
def variables_taken_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a destination in this process sets is undone."""
    for name in (*mlflow_settings.OURS, TIMEOUT, "MLFLOW_TRACKING_URI"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def test_asynchronous_logging(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails is never counted as delivered: it is sent again, and params and tags arrive, too."""
    monkeypatch.setenv("MLFLOW_ENABLE_ASYNC_LOGGING", "true")
    monkeypatch.setenv("TRACKSIDE_BULK_STORE", "off")
    uri = new_database(tmp_path)
    own = SqlAlchemyStore.log_batch
    failures: list[int] = []

    def log_batch(store: SqlAlchemyStore, run_id: str, metrics: Any, params: Any, tags: Any) -> None:
        if metrics and len(failures) < 3:
            failures.append(len(metrics))
            raise MlflowException("the database is away")
        own(store, run_id, metrics, params, tags)

    monkeypatch.setattr(SqlAlchemyStore, "log_batch", log_batch)
    with delivery(tmp_path / "journals", uri) as rig:
        rig.configure({"lr": "0.1"})
        rig.emit(50)
        rig.deliver()
    run = MlflowClient(uri).get_run(rig.run_id)
    assert len(failures) == 3
    assert steps_of(MlflowClient(uri), rig.run_id) == once_each(50)
    assert (run.data.params, run.info.status) == ({"lr": "0.1"}, "FINISHED")


@pytest.mark.parametrize(
    ("asked", "taken"),
    [
        ("5", 5),
        ("999999", LONGEST_TIMEOUT),
        *((unusable, REQUEST_TIMEOUT) for unusable in ("", "0", "-3", "soon", "²")),
    ],
)
def test_a_timeout(monkeypatch: pytest.MonkeyPatch, asked: str, taken: int) -> None:
    """A timeout that MLflow or the connection would refuse is ours. One that never ends is cut."""
    monkeypatch.setenv(TIMEOUT, asked)
    assert request_timeout() == taken
    set_variables()
    assert request_timeout() == taken
    assert os.environ[TIMEOUT] == str(taken)
