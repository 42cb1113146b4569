"""Programs that make many runs, and what was delivered of them.

Each program is a process of its own, with real shippers that deliver to files in place of MLflow.
"""

from __future__ import annotations

import os
import textwrap
from typing import TYPE_CHECKING

from tests.support import recorder
from tests.support.program import run_python

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

POINTS = 10
"""Points of each run."""

BEGINNING = f"""
import os, sys, time
{recorder.IN_A_SCRIPT}
import trackside
from pathlib import Path
from trackside.event_bus.bus import Bus
from trackside.session.undelivered import undelivered_runs

hold = Path(os.environ[{recorder.PLACE!r}], {recorder.HOLD!r})

def begin(number, bus=trackside.bus):
    run = trackside.start("sweep", run_name=str(number), bus=bus)
    for step in range({POINTS}):
        run.log({{"loss": float(number)}}, step=step)
    return run

def trial(number, status="FINISHED", bus=trackside.bus):
    run = begin(number, bus)
    run.finish(status, wait=False)
    return run

def descriptors():
    return len(os.listdir("/proc/self/fd")) if os.path.exists("/proc/self/fd") else 0
"""


def play(folder: Path, script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The outcome of a program that makes runs: :data:`BEGINNING`, and then ``script``."""
    (folder / "records").mkdir()
    program = folder / "program.py"  # a file, which a spawned child can import
    program.write_text(BEGINNING + textwrap.dedent(script))
    return run_python(
        program,
        cwd=folder,
        env={
            **os.environ,
            **recorder.environment(folder / "records"),
            "TRACKSIDE_DIR": str(folder / "journals"),
            "TRACKSIDE_EXIT_TIMEOUT": "100",
            **environment,
        },
    )


def ends(folder: Path) -> dict[str, str]:
    """The status of each run that was delivered, by the run's name. Each one has all of its points."""
    runs = recorder.read_runs(folder / "records")
    assert all(len(run.points) == POINTS for run in runs), runs
    return {run.journal.split("-")[1]: run.status for run in runs}
