"""Many runs in one process: what one leaves behind does not add up."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.ends.harness import new_database
from tests.support.program import run_python

PROGRAM = Path(__file__).with_name("many_runs.py")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")


def play(folder: Path, count: int, timeout: float, **environment: str) -> dict[str, Any]:
    """What the program says of itself. It then ends by SIGTERM, as any program would."""
    done = run_python(
        str(PROGRAM),
        str(count),
        cwd=folder,
        timeout=timeout,
        env={**os.environ, "TRACKSIDE_EXIT_TIMEOUT": "60", **environment},
    )
    assert done.returncode == -signal.SIGTERM, done.stderr
    assert "RecursionError" not in done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


def assert_flat(said: dict[str, Any], room: int) -> None:
    """Nothing grows with the number of runs. ``room``: megabytes that may come with the caches."""
    early, late = said["early"], said["late"]
    for name in ("descriptors", "threads", "shippers", "open", "zombies", "filters"):
        assert late[name] <= early[name] + 1, (name, said)
    assert late["links"] <= 1
    assert late["shippers"] <= 3
    assert late["megabytes"] <= early["megabytes"] + room, said


def test_what_twenty_runs_leave_behind_does_not_add_up(tmp_path: Path) -> None:
    """Ended where they began, on another thread, or failed with the exception kept. Without MLflow."""
    said = play(tmp_path, 21, 200, RANK="1", WORLD_SIZE="2")
    assert_flat(said, room=12)
    assert len((tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()) >= 21


@pytest.mark.slow
def test_what_a_hundred_runs_in_mlflow_leave_behind_does_not_add_up(tmp_path: Path) -> None:
    """The same with a store of MLflow's."""
    assert_flat(play(tmp_path, 100, 1500, MLFLOW_TRACKING_URI=new_database(tmp_path)), room=25)
