"""``mlflow server`` with the bulk store: every MLflow client writes through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mlflow.entities import Metric, Param
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.faults.servers import MlflowServer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_server(tmp_path: Path) -> None:
    """A stock client's metrics, params, artifacts and models arrive; refusals are MLflow's."""
    database = new_database(tmp_path)
    with MlflowServer(tmp_path, backend_store_uri=f"trackside+{database}").running() as server:
        client = MlflowClient(server.url)
        run_id = client.create_run("0").info.run_id
        points = [Metric("loss", float(step), step, step) for step in range(2500)]
        client.log_batch(run_id, points, [Param("lr", "1")])
        client.log_batch(run_id, points[:10])
        client.log_text(run_id, "text", "note.txt")
        with pytest.raises(MlflowException, match="Changing param values is not allowed"):
            client.log_batch(run_id, points[:1], [Param("lr", "2")])
        with pytest.raises(MlflowException, match="exceeds the maximum length"):
            client.log_batch(run_id, [Metric("x" * 251, 1.0, 1, 1)])
        client.create_registered_model("digits")
        log = (tmp_path / "server.log").read_text()
    assert "bulk store is off" not in log
    reader = MlflowClient(database)
    assert len(reader.get_metric_history(run_id, "loss")) == 2500
    assert reader.get_run(run_id).data.metrics == {"loss": 2499.0}
    assert [model.name for model in reader.search_registered_models()] == ["digits"]
