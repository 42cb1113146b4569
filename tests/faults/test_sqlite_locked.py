"""Another process holds the sqlite file's lock: points wait, and then arrive."""

from __future__ import annotations

import sqlite3
import threading
import time
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.faults.delivery import delivery, once_each, steps_of
from tests.faults.fake import until

if TYPE_CHECKING:
    from pathlib import Path


def hold_lock(path: Path, seconds: float, held: threading.Event) -> None:
    """Lock the database against everybody for a while."""
    connection = sqlite3.connect(path, isolation_level=None, timeout=20)
    connection.execute("BEGIN EXCLUSIVE")
    held.set()
    time.sleep(seconds)
    connection.execute("ROLLBACK")
    connection.close()


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(4, id="within MLflow's patience"),
        pytest.param(30, id="beyond it", marks=[pytest.mark.slow, pytest.mark.timeout(180)]),
    ],
)
def test_a_locked_database(tmp_path: Path, journals: Path, seconds: float) -> None:
    """MLflow itself waits 20 s. What it gives up on is tried again."""
    uri = new_database(tmp_path)
    with delivery(journals, uri) as rig:
        rig.worker.start()
        until(lambda: rig.worker.opened, 60)
        held = threading.Event()
        holder = threading.Thread(target=hold_lock, args=(tmp_path / "mlflow.db", seconds, held))
        holder.start()
        assert held.wait(30)
        rig.emit(200)
        if seconds > 20:
            until(lambda: "locked" in (rig.worker.failing or ""), 60)
        holder.join()
        rig.finish()
    client = MlflowClient(uri)
    assert steps_of(client, rig.run_id) == once_each(200)
    assert not rig.journal.rejected.exists()
    assert client.get_run(rig.run_id).info.status == "FINISHED"
