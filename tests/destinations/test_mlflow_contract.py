"""MLflow, as the run's own destination and as a second server, keeps to what every destination does."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import msgspec
import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from trackside.destinations.mlflow.destination import MLflowDestination
from trackside.destinations.mlflow.mirror import MLflowMirror
from trackside.journal.outbox import Outbox
from trackside.testing.destinations import DestinationContract, Point

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.destinations.context import DestinationContext


class MLflowContract(DestinationContract):
    """On a sqlite store."""

    @pytest.fixture(autouse=True)
    def store(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A store whose tables are made."""
        new_database(tmp_path)
        monkeypatch.chdir(tmp_path)

    def points(self, context: DestinationContext) -> Iterator[Point]:
        client = MlflowClient(f"sqlite:///{context.path('mlflow.db')}")
        experiment = client.get_experiment_by_name("contract")
        assert experiment is not None
        (run,) = client.search_runs([experiment.experiment_id])
        for name in run.data.metrics:
            for point in client.get_metric_history(run.info.run_id, name):
                yield name, point.step, point.value

    def stored(self, value: float) -> float:
        """MLflow's database has no infinities, and shows the largest floats instead."""
        return max(-sys.float_info.max, min(sys.float_info.max, value)) if not math.isnan(value) else value


class TestOwn(MLflowContract):
    """The run's own destination."""

    def destination(self, context: DestinationContext) -> MLflowDestination:
        uri = f"sqlite:///{context.path('mlflow.db')}"
        return MLflowDestination(context, uri, outbox=Outbox(context.journal))


class TestMirror(MLflowContract):
    """The destination ``mlflow`` beside it."""

    def destination(self, context: DestinationContext) -> MLflowMirror:
        # The id that the experiment has on the run's own server means nothing on the second one.
        target = msgspec.structs.replace(context.meta.target, experiment_id="77")
        context = replace(context, meta=msgspec.structs.replace(context.meta, target=target))
        return MLflowMirror(context, tracking_uri=f"sqlite:///{context.path('mlflow.db')}")
