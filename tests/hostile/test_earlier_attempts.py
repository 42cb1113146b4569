"""What an earlier attempt has left behind, and cannot deliver, keeps the next one out of nothing."""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.support.job import Job, wait_for
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json
from trackside.journal.meta import Meta, State
from trackside.tag_names import HEARTBEAT_TAG

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process

NOWHERE = "http://127.0.0.1:9"

GONE_SERVER = (
    f"trackside.start('x', checkpoint_dir='checkpoints', tracking_uri={NOWHERE!r})\nemit(10)\nos._exit(9)\n"
)
SECOND_DOWN = (
    f"down = dict(type='mlflow', tracking_uri={NOWHERE!r}, name='second')\n"
    "trackside.start('x', checkpoint_dir='checkpoints', destinations=[down])\n"
    "emit(100)\nopen('emitted', 'w')\ntime.sleep(60)\n"
)
NEXT = (
    "run = trackside.start('x', checkpoint_dir='checkpoints')\n"
    "open('started', 'w').write(str(run.run_id))\nemit(100, start=100)\n"
)


def kill_shipper(journal: JournalDirectory) -> None:
    """Kill the process that ships ``journal``, once there is one."""
    wait_for(journal.state.exists)
    state = read_json(journal.state, State)
    assert state is not None
    os.kill(state.pid, signal.SIGKILL)


def stops_without_a_lock(pid: int, uri: str) -> bool:
    """Stop the process. If it holds the database's lock, let it go on, and return False."""
    os.kill(pid, signal.SIGSTOP)
    with contextlib.closing(sqlite3.connect(uri.removeprefix("sqlite:///"), timeout=0.2)) as database:
        try:
            database.execute("BEGIN EXCLUSIVE")
        except sqlite3.OperationalError:
            os.kill(pid, signal.SIGCONT)
            return False
    return True


def test_what_can_not_be_delivered_keeps_no_attempt_waiting(tmp_path: Path) -> None:
    """One attempt logged to a server that is gone for good, another beside MLflow to one that is down.

    The shippers of both were killed. The next attempt with these checkpoints has its run id at once.
    """
    job = Job(tmp_path, on_mlflow=True)
    (tmp_path / "checkpoints").mkdir()
    assert job.train(GONE_SERVER, TRACKSIDE_START_TIMEOUT="0.1").wait(60) == 9
    gone = job.journal()
    kill_shipper(gone)
    first = job.train(SECOND_DOWN)
    wait_for((tmp_path / "emitted").exists)
    first.kill()
    first.wait()
    (second,) = (
        JournalDirectory(path.parent)
        for path in job.journals.glob("*/meta.json")
        if gone.name not in str(path)
    )
    kill_shipper(second)
    assert job.train(NEXT, TRACKSIDE_START_TIMEOUT="60").wait(240) == 0
    (run,) = MlflowClient(job.uri).search_runs(["1"])
    assert (tmp_path / "started").read_text() == run.info.run_id, "start() had no run id"
    wait_for(lambda: job.steps_in_mlflow(run) == Counter(range(200)))
    wait_for(lambda: MlflowClient(job.uri).get_run(run.info.run_id).info.status == "FINISHED")
    for journal in (gone, second):
        assert read_json(journal.meta, Meta) is not None, "what was not delivered is kept"
    kill_shipper(second)


def test_a_shipper_that_stood_still_sets_no_status(tmp_path: Path) -> None:
    """Its training dies while it is stopped, and the next attempt, with journals elsewhere, finishes the run.

    Woken up, it delivers what it has, and leaves the page as it is.
    """
    job = Job(tmp_path, on_mlflow=True)
    (tmp_path / "checkpoints").mkdir()
    first = job.train(
        "trackside.start('x', checkpoint_dir='checkpoints')\n"
        "emit(100)\nopen('emitted', 'w')\ntime.sleep(60)\n"
    )
    wait_for((tmp_path / "emitted").exists)
    older = job.journal()
    shipper = job.shipper()
    wait_for(lambda: stops_without_a_lock(shipper, job.uri))
    first.kill()
    first.wait()
    assert job.train(NEXT, TRACKSIDE_DIR="elsewhere", TRACKSIDE_START_TIMEOUT="60").wait(240) == 0
    client = MlflowClient(job.uri)
    (run,) = client.search_runs(["1"])
    wait_for(lambda: client.get_run(run.info.run_id).info.status == "FINISHED")
    wait_for(lambda: HEARTBEAT_TAG not in client.get_run(run.info.run_id).data.tags)
    before = client.get_run(run.info.run_id)
    os.kill(shipper, signal.SIGCONT)
    wait_for(lambda: not older.path.exists())
    after = client.get_run(run.info.run_id)
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
    assert after.data.tags == before.data.tags
    assert job.steps_in_mlflow(run) == Counter(range(200))
