"""A program that starts its run and then becomes a daemon: the run continues in it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database, wait_until_settled
from trackside.journal import lossless_json
from trackside.journal.directory import JournalDirectory
from trackside.journal.meta import State
from trackside.journal.owner import Owner, this_process
from trackside.session import daemon
from trackside.session.daemon import is_daemon_of, session, wait_for_run

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.process, pytest.mark.skipif(not hasattr(os, "fork"), reason="no daemons here")]

PROGRAM = """
import dataclasses, os, sys
import trackside

class Seen:
    steps = []
    def on_metrics(self, sample):
        self.steps.append(sample.step)

run = trackside.start("daemon", sinks=[Seen()])
settings = dataclasses.replace(run._plan.settings, start_timeout=60.0)
run._plan = dataclasses.replace(run._plan, settings=settings)
trackside.log({"loss": 1.0}, step=0)
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
os.chdir("/")
null = os.open(os.devnull, os.O_RDWR)
for descriptor in (0, 1, 2):
    os.dup2(null, descriptor)
os.closerange(3, 200)
for step in range(1, 100):
    trackside.log({"loss": 1.0 / step}, step=step)
run.finish()
with open(sys.argv[1] + ".new", "w") as file:
    file.write(f"{run.run_id} {run.status} {run.counts.shipped} {len(Seen.steps)}")
os.replace(sys.argv[1] + ".new", sys.argv[1])
"""


@pytest.mark.parametrize("start_timeout", ["60", "0.01"], ids=["known run", "run that is being opened"])
def test_the_run_goes_on_in_the_daemon(tmp_path: Path, start_timeout: str) -> None:
    """All points arrive in one run, and the daemon's end is the run's. Its sinks continue as well.

    A slow server may not have answered when the program becomes a daemon.
    """
    uri, told = new_database(tmp_path), tmp_path / "told"
    subprocess.run(
        [sys.executable, "-c", PROGRAM, str(told)],
        cwd=tmp_path,
        env={
            **os.environ,
            "MLFLOW_TRACKING_URI": uri,
            "TRACKSIDE_START_TIMEOUT": start_timeout,
            "TRACKSIDE_EXIT_TIMEOUT": "60",
        },
        timeout=100,
        check=True,
    )
    deadline = time.monotonic() + 120
    while not told.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    run_id, status, shipped, seen = told.read_text("utf-8").split()
    run = wait_until_settled(uri, tmp_path / ".trackside")
    assert run is not None
    assert (run.info.run_id, run.info.status) == (run_id, "FINISHED")
    assert (status, int(shipped), int(seen)) == ("FINISHED", 99, 100)
    assert len(MlflowClient(uri).get_metric_history(run_id, "loss")) == 100


def test_a_worker_is_no_daemon(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the session of the process that started the run, or that process lives, or both."""
    monkeypatch.setattr(daemon, "PATIENCE", 0.05)
    mine = this_process()
    dead = Owner(mine.host, 2**22 + 1, 0.0, mine.boot_id)
    assert is_daemon_of(dead, -1)
    assert not is_daemon_of(dead, session())
    assert not is_daemon_of(dead, None)
    assert not is_daemon_of(mine, -1)


def test_a_run_that_is_never_opened(tmp_path: Path) -> None:
    """The wait ends when the server has refused, when the journal is gone, and after the time given."""
    journal = JournalDirectory(tmp_path)
    before = time.monotonic()
    assert wait_for_run(journal, 0.05) is None
    journal.state.write_bytes(lossless_json.encode(State(pid=1, phase="refused")))
    assert wait_for_run(journal, 60.0) is None
    assert wait_for_run(JournalDirectory(tmp_path / "gone"), 60.0) is None
    assert time.monotonic() - before < 30
