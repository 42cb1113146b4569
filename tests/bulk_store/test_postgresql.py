"""The bulk store on a real PostgreSQL server: a full batch, and two writers at once."""

from __future__ import annotations

import pytest
from mlflow.entities import Metric, Param

from tests.bulk_store.pair import Batch, Pair
from tests.bulk_store.writers import write_at_once

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shared_pair(postgres_pair: Pair) -> Pair:
    """Two databases of one server."""
    return postgres_pair


def test_a_full_batch(pair: Pair) -> None:
    """As many points as MLflow takes at once, of long names, beside params."""
    points = [Metric(f"{'x' * 200}/é {i % 90}", 1 / (i + 1), i, i) for i in range(950)]
    assert pair.log(Batch(points, [Param(f"p{i}", "v") for i in range(50)])) is None
    assert len(pair.compare()["metrics"]) == 950


@pytest.mark.parametrize("other", ["ours", "stock"])
def test_two_writers(pair: Pair, other: str) -> None:
    """No deadlock reaches the caller; each point is there once, and the latest are the latest of both."""
    _, (ours, run_id) = pair.runs
    address = ours.db_uri
    second = address if other == "stock" else f"trackside+{address}"
    write_at_once(address, run_id, [f"trackside+{address}", second])
