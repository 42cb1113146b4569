"""Runs that MLflow's own client reads from a database."""

from __future__ import annotations

from mlflow.tracking import MlflowClient

from trackside.destinations.mlflow.through_mlflow import ThroughMLflow


def test_a_step_that_is_no_integer(store: str) -> None:
    """sqlite keeps what ``log_metric(..., step=epoch)`` gave it. The run can be read all the same."""
    client = MlflowClient(store)
    run_id = client.create_run("0").info.run_id
    client.log_metric(run_id, "loss", 0.5, timestamp=1_700_000_000_000, step=1.5)  # type: ignore[arg-type]
    assert ThroughMLflow(store).get_run(run_id).data.last == {"loss": (1, 1_700_000_000_000)}
