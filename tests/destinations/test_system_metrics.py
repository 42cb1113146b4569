"""The machine's load beside the training's metrics: opt-in, and sampled outside the training process."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

import trackside
from tests.faults.fake import until
from trackside.destinations.mlflow import system_metrics as mlflow_system
from trackside.destinations.mlflow.system_metrics import SystemMetrics
from trackside.destinations.mlflow.tags import counts_in
from trackside.errors import ConfigurationError
from trackside.session.arguments import checked_interval

if TYPE_CHECKING:
    from pathlib import Path


class Meter:
    """Counts its looks. ``broken`` raises."""

    def __init__(self, *, broken: bool = False) -> None:
        self.looks = 0
        self.broken = broken

    def collect_metrics(self) -> None:
        if self.broken:
            raise RuntimeError("fallen off the bus")
        self.looks += 1

    def aggregate_metrics(self) -> dict[str, float]:
        return {"looks": self.looks}

    def clear_metrics(self) -> None:
        pass


def test_samples_wait_until_they_are_sent() -> None:
    """In order, each once, none from after the end."""
    load = SystemMetrics([Meter(broken=True), Meter()], interval=0.01, since_ms=0)
    load.start()
    until(lambda: len(load.waiting(100)) >= 5)
    load.stop()
    first = load.waiting(3)
    assert [sample.metrics for sample in first] == [{"system/looks": n} for n in (1.0, 2.0, 3.0)]
    load.sent(first)
    (fourth,) = load.waiting(1)
    assert fourth.metrics == {"system/looks": 4.0}
    assert load.waiting(100, until_ms=fourth.timestamp_ms - 1) == []


def test_a_long_outage_costs_the_oldest_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow."""
    monkeypatch.setattr(mlflow_system, "MAX_KEPT", 3)
    load = SystemMetrics([Meter()], interval=0.001, since_ms=0)
    load.start()
    until(lambda: bool(load.waiting(1)) and load.waiting(1)[0].metrics["system/looks"] > 2)
    load.stop()
    assert len(load.waiting(100)) == 3


def test_steps_count_intervals_since_the_runs_start() -> None:
    """So that a restarted shipper continues where the last one was."""
    since = int(time.time() * 1000) - 100_000
    assert SystemMetrics([Meter()], interval=10, since_ms=since).sample().step == 10


@pytest.mark.parametrize(
    ("given", "variables", "wanted"),
    [
        (None, {}, None),
        (False, {"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true"}, None),
        (None, {"MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING": "true"}, 10.0),
        (True, {}, 10.0),
        (True, {"MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "2.5"}, 2.5),
        (30, {}, 30.0),
    ],
)
def test_opting_in(
    given: float | None, variables: dict[str, str], wanted: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the argument or by MLflow's own variables. The argument comes first."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert checked_interval(given) == wanted


@pytest.mark.parametrize("given", [0, -1, float("nan"), float("inf"), "often"])
def test_an_interval_that_is_none(given: float) -> None:
    """Says what to give."""
    with pytest.raises(ConfigurationError, match="number of seconds above 0"):
        checked_interval(given)


@pytest.mark.process
def test_the_load_is_on_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own names, on the run, from the shipper. The training's counts know nothing of them."""
    monkeypatch.chdir(tmp_path)
    with trackside.start("load", system_metrics=0.2) as run:
        run_id = run.run_id
        assert run_id is not None
        client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
        trackside.log({"loss": 1.0}, step=0)
        name = "system/cpu_utilization_percentage"
        until(lambda: len(client.get_metric_history(run_id, name)) >= 3, 60)
    found = client.get_run(run_id)
    assert {"system/system_memory_usage_megabytes", "system/disk_usage_percentage"} <= set(found.data.metrics)
    steps = [metric.step for metric in client.get_metric_history(run_id, name)]
    assert steps == sorted(set(steps))
    assert counts_in(found.data.tags)["emitted"] == 1
    assert run.counts.shipped == 1


@pytest.mark.process
def test_without_opting_in_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what you ask for is measured."""
    monkeypatch.chdir(tmp_path)
    with trackside.start("no load") as run:
        trackside.log({"loss": 1.0}, step=0)
    assert run.run_id is not None
    assert set(MlflowClient(f"sqlite:///{tmp_path}/mlflow.db").get_run(run.run_id).data.metrics) == {"loss"}
