"""What only MLflow knows is found while the training runs: one error, all is kept, and ``sync`` delivers."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.faults.delivery import check
from tests.faults.proxy import FaultProxy, Forward, Reply, Request, answer
from tests.faults.servers import wait_until
from tests.faults.training import Play, Training
from trackside.journal.lock import is_locked
from trackside.shipper.sync import sync_journal

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

NO_WAITING = {"TRACKSIDE_START_WAIT": "off"}

SCRIPT = """
    run = trackside.start()
    step = 0
    while run.delivery.phase != "failed":
        emit(1, step, pause=0.1)
        step += 1
    emit(20, step, pause=0.1)
    try:
        run.run_id
    except trackside.TrackingError as error:
        say(error=str(error))
    say(phase=run.delivery.phase, reason=run.delivery.reason, emitted=step + 20)
"""


def check_refused(training: Training, words: str) -> None:
    """The training went on to its end, and said once what is wrong and where everything is kept."""
    assert training.end() == 0, training.text
    assert training.said["phase"] == "failed"
    assert words in training.said["reason"]
    assert words in training.said["error"]
    told = [
        line for line in training.text.splitlines() if line.startswith("LOG MLflow at") and "refused" in line
    ]
    assert len(told) == 1, training.text
    assert words in told[0]
    assert str(training.journal.path) in told[0]
    assert "`trackside sync --tracking-uri ...`" in told[0]


def sync(training: Training, tracking_uri: str | None = None) -> None:
    """Deliver what is kept, once the shipper that was refused has left."""
    wait_until(lambda: not is_locked(training.journal.lock), 60, training.log)
    assert sync_journal(training.journal, tracking_uri=tracking_uri).result == "delivered", training.log()


def deliver_elsewhere(training: Training, folder: Path, experiment: str) -> None:
    """``trackside sync --tracking-uri`` gives another store everything, and the right status."""
    folder.mkdir()
    other = new_database(folder)
    sync(training, other)
    check(MlflowClient(other), experiment, training.said["emitted"])


def test_a_database_of_another_version(tmp_path: Path) -> None:
    """The file is a database with MLflow's tables, so nothing is wrong at first sight."""
    uri = new_database(tmp_path)
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"))) as database, database:
        database.execute("UPDATE alembic_version SET version_num = 'ffffffffffff'")
    training = Training(tmp_path, uri, SCRIPT, MLFLOW_EXPERIMENT_NAME="late", **NO_WAITING)
    check_refused(training, "another version of MLflow")
    deliver_elsewhere(training, tmp_path / "elsewhere", "late")


def test_an_experiment_that_is_deleted_after_the_start(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """The first look finds it as it was, and the shipper as it is. Restored, it gets everything."""
    experiment = client.create_experiment(tmp_path.name)

    def delete_behind(_request: Request, forward: Forward) -> Reply:
        reply = forward()
        client.delete_experiment(experiment)
        return reply

    proxy.add(delete_behind, lambda request: request.is_for("get-by-name"), times=1)
    training = play(SCRIPT, **NO_WAITING)
    check_refused(training, f"experiment '{tmp_path.name}' is deleted: restore it")
    client.restore_experiment(experiment)
    sync(training)
    check(client, tmp_path.name, training.said["emitted"])


def test_a_server_that_answers_500(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path
) -> None:
    """It may mend itself, so nothing is given up, and the run is opened when it has."""
    proxy.add(answer(Reply.error(500, "INTERNAL_ERROR", "out of order")))
    training = play(
        """
        run = trackside.start()
        emit(100)
        wait_for("mended")
        say(phase=run.delivery.phase)
        """,
        **NO_WAITING,
    )
    training.wait_to_be_asked("mended")
    proxy.heal()
    training.go("mended")
    assert training.end() == 0, training.text
    assert training.said["phase"] in {"opening", "open"}
    assert "refused" not in training.text
    training.wait_until_delivered()
    check(client, tmp_path.name, 100)


@pytest.mark.parametrize("status", [401, 403])
def test_credentials_that_are_refused_later_and_mended(
    play: Play, proxy: FaultProxy, client: MlflowClient, tmp_path: Path, status: int
) -> None:
    """They are good for a look, not for a run: the log says so once, and nothing is given up."""
    refusal = Reply.error(status, "PERMISSION_DENIED", "you may not")
    proxy.add(answer(refusal), lambda request: request.is_for("runs/create"))
    training = play(
        """
        run = trackside.start()
        step = 0
        while run.delivery.reason is None:
            emit(1, step, pause=0.1)
            step += 1
        emit(20, step, pause=0.1)
        say(delivery=str(run.delivery), emitted=step + 20)
        wait_for("mended")
        """,
        **NO_WAITING,
    )
    training.wait_to_be_asked("mended")
    assert training.said["delivery"].startswith("opening: ")
    proxy.heal()
    training.go("mended")
    assert training.end() == 0, training.text
    assert training.text.count("MLflow refuses the credentials") == 1
    if training.journals:
        training.dismiss_shipper()
        sync(training)
    check(client, tmp_path.name, training.said["emitted"])


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    """Only trying tells, where the superuser may do everything but what the kernel refuses."""
    assert os.path.isdir("/proc")
    training = Training(tmp_path, "sqlite:////proc/no/such/mlflow.db", SCRIPT, **NO_WAITING)
    check_refused(training, "cannot be made")
    deliver_elsewhere(training, tmp_path / "elsewhere", "Default")
