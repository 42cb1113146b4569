"""The bulk store on a real PostgreSQL server: what is tested on sqlite, and two writers at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy
from hypothesis import given
from hypothesis import strategies as st
from mlflow.entities import Metric, Param

from tests.bulk_store.batches import batches
from tests.bulk_store.pair import Batch, Pair
from tests.bulk_store.test_differential import (
    RELAXED,
    test_a_changed_param_loses_the_metrics_of_its_batch,
    test_deleted_and_unknown_runs,
    test_metrics_of_models_and_datasets,
    test_minus_zero,
    test_nan_and_infinities_are_stored_as_mlflow_stores_them,
    test_points_beyond_the_limit_of_a_batch,
    test_sent_again_nothing_changes,
    test_the_latest_is_the_one_with_the_highest_step_then_time_then_value,
)
from tests.bulk_store.writers import write_at_once
from tests.faults.postgres import PostgresServer, find_programs, postgres_server

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(300)]

__all__ = [
    "test_a_changed_param_loses_the_metrics_of_its_batch",
    "test_deleted_and_unknown_runs",
    "test_metrics_of_models_and_datasets",
    "test_minus_zero",
    "test_nan_and_infinities_are_stored_as_mlflow_stores_them",
    "test_points_beyond_the_limit_of_a_batch",
    "test_sent_again_nothing_changes",
    "test_the_latest_is_the_one_with_the_highest_step_then_time_then_value",
]


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    """A server for this module."""
    pytest.importorskip("psycopg2")
    programs = find_programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres_server(programs) as server:
        yield server


@pytest.fixture(scope="module")
def shared_pair(server: PostgresServer) -> Pair:
    """Two databases of one server."""
    base = server.uri.removesuffix("/postgres")
    engine = sqlalchemy.create_engine(server.uri, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in ("stock", "ours"):
            connection.exec_driver_sql(f"CREATE DATABASE {name}")
    engine.dispose()
    return Pair(f"{base}/stock", f"trackside+{base}/ours")


@RELAXED
@given(st.lists(batches, min_size=1, max_size=5))
def test_random_batches(shared_pair: Pair, given_batches: list[Batch]) -> None:
    """Whatever comes, in whatever order."""
    shared_pair.renew()
    for batch in given_batches:
        shared_pair.log(batch)
    shared_pair.compare()


def test_a_full_batch(pair: Pair) -> None:
    """As many points as MLflow takes at once, of long names, beside params."""
    points = [Metric(f"{'x' * 200}/é {i % 90}", 1 / (i + 1), i, i) for i in range(950)]
    assert pair.log(Batch(points, [Param(f"p{i}", "v") for i in range(50)])) is None
    assert len(pair.compare()["metrics"]) == 950


@pytest.mark.parametrize("other", ["ours", "stock"])
def test_two_writers(pair: Pair, server: PostgresServer, other: str) -> None:
    """No deadlock reaches the caller; each point is there once, and the latest are the latest of both."""
    _, (ours, run_id) = pair.runs
    address = ours.db_uri
    second = address if other == "stock" else f"trackside+{address}"
    write_at_once(address, run_id, [f"trackside+{address}", second])
