"""A process adds to our run, and is killed together with its shipper: the points of its journal arrive."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database, only_run

if TYPE_CHECKING:
    from pathlib import Path

CHILD = """
import os, sys
import psutil
import trackside
trackside.start("left", run_id=sys.argv[1], resume="always")
for step in range(10):
    trackside.log({"child": step}, step=step)
for process in [*psutil.Process().children(recursive=True), psutil.Process()]:
    process.kill()
"""

PROGRAM = """
import os, subprocess, sys, threading
import trackside
from trackside.integrations.left_journals import LeftJournals
run = trackside.start("left")
subprocess.run([sys.executable, "-c", sys.argv[1], run.run_id])
run.finish()
def refuse(thread):
    raise RuntimeError("can't create new thread at interpreter shutdown")
threading.Thread.start = refuse
left = LeftJournals(os.environ["TRACKSIDE_DIR"], run.link)
print(len(left.found()))
left.deliver(200, end_process=lambda: print("ended"))
print(len(left.found()))
left.deliver(200, end_process=lambda: print("ended again"))
"""


@pytest.mark.process
def test_what_a_killed_process_has_logged_is_delivered(tmp_path: Path) -> None:
    """By the process whose run it is, within the time it has, and without a thread, as at its exit.

    Where nothing is left, nothing is done.
    """
    uri = new_database(tmp_path)
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "TRACKSIDE_DIR": str(tmp_path / "journals"),
        "TRACKSIDE_START_TIMEOUT": "100",
        "TRACKSIDE_EXIT_TIMEOUT": "100",
    }
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, CHILD],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.stdout.split() == ["1", "ended", "0"], done.stderr
    run = only_run(uri)
    assert run is not None
    assert len(MlflowClient(uri).get_metric_history(run.info.run_id, "child")) == 10
    assert run.info.status == "FINISHED"
