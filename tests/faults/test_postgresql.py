"""PostgreSQL behind MLflow, without a server in between: restarted midway, and away at the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.faults.delivery import delivery, once_each, steps_of
from tests.faults.fake import until
from tests.faults.postgres import PostgresServer, server_or_skip
from tests.faults.training import Training
from trackside.destinations.mlflow.tags import counts_in
from trackside.shipper import sending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.postgres, pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def shared_postgres() -> Iterator[PostgresServer]:
    """A server for this module."""
    with server_or_skip() as server:
        yield server


@pytest.fixture
def postgres(shared_postgres: PostgresServer) -> PostgresServer:
    """A running server, also after a test that stopped it."""
    shared_postgres.start()
    return shared_postgres


def test_a_database_restarted_midway(postgres: PostgresServer, journals: Path) -> None:
    """All connections are cut in the midst of delivery: every point once, none rejected."""
    with delivery(journals, postgres.uri) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 120)
        rig.emit(5_000)
        until(lambda: rig.worker.cursor.shipped >= 1000, 60)
        postgres.stop()
        until(lambda: rig.worker.failing is not None, 60)
        rig.emit(5_000, start=5_000)
        postgres.start()
        rig.finish()
    client = MlflowClient(postgres.uri)
    assert steps_of(client, rig.run_id) == once_each(10_000)
    assert not rig.journal.rejected.exists()
    assert counts_in(client.get_run(rig.run_id).data.tags)["shipped"] == 10000


def test_a_database_that_stands_still(
    postgres: PostgresServer, journals: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No error comes, ever: the worker is failing all the same, and delivers everything once it continues."""
    monkeypatch.setattr(sending, "DEADLINE", 2.0)
    with delivery(journals, postgres.uri) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 120)
        rig.emit(2_000)
        until(lambda: rig.worker.cursor.shipped == 2000, 60)
        with postgres.stopped():
            rig.emit(2_000, start=2_000)
            until(lambda: "no answer for more than 2 s" in (rig.worker.failing or ""), 60)
        rig.finish()
        assert rig.worker.failing is None
    assert steps_of(MlflowClient(postgres.uri), rig.run_id) == once_each(4_000)


def test_a_database_that_is_away_at_the_start(postgres: PostgresServer, tmp_path: Path) -> None:
    """``start()`` warns in time though MLflow would try for 100 s. The password is shown nowhere."""
    postgres.stop()
    training = Training(
        tmp_path,
        postgres.uri,
        """
        run = trackside.start("away")
        emit(300)
        wait_for("database")
        assert run.flush(60)
        say(run_id=run.run_id)
        """,
        TRACKSIDE_START_TIMEOUT="8",
    )
    try:
        training.wait_to_be_asked("database")
        assert "has not opened the run yet (OperationalError" in training.text
        shown = training.log() + "".join(
            path.read_text(errors="replace") for path in training.journal.path.rglob("*.json")
        )
        postgres.start()
        training.go("database")
        assert training.end() == 0, training.text
        training.wait_until_delivered()
    finally:
        training.abandon()
    assert postgres.password not in shown + training.text
    client = MlflowClient(postgres.uri)
    assert steps_of(client, training.said["run_id"]) == once_each(300)
    assert client.get_run(training.said["run_id"]).info.status == "FINISHED"
