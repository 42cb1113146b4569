"""A process that crashes threads and gets signals all the time: what is told of it stays small."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.program import run_python

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import json, os, signal, threading, time
import trackside

threading.excepthook = lambda arguments: None
signal.signal(signal.SIGALRM, lambda *_: None)
lines = {"type": "jsonl", "path": "m.jsonl", "transform": {"ranks": [1]}}
run = trackside.start("noisy", destinations=[lines])
signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)

def crash():
    raise ValueError("in a thread " + "x" * 2000)

for number in range(300):
    thread = threading.Thread(target=crash)
    thread.start()
    thread.join()
    trackside.log({"loss": 0.5}, step=number)
run.flush()
time.sleep(0.5)
state = json.loads(run.journal.state.read_text("utf-8"))
print(json.dumps({
    "size": run.journal.state.stat().st_size,
    "crashes": json.dumps(state["lifecycle"]).count("thread_crashed"),
    "signals": state["signals"],
}))
signal.setitimer(signal.ITIMER_REAL, 0)
run.finish()
print(run.status, run.counts.dropped)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="interval timers, and a process to look into")
def test_crashes_and_signals_by_the_hundred_stay_small(tmp_path: Path) -> None:
    """The state holds the first crashes, and no signal that explains no end. The run fails as it should."""
    done = run_python(
        "-c",
        PROGRAM,
        cwd=tmp_path,
        check=True,
        env={"RANK": "1", "WORLD_SIZE": "2", "TRACKSIDE_QUIET": "on", "TRACKSIDE_EXIT_TIMEOUT": "60"},
    )
    told, ended = done.stdout.splitlines()
    seen = json.loads(told)
    assert seen["crashes"] == 3
    assert seen["signals"] == []
    assert seen["size"] < 40_000
    assert ended == "FAILED 0"
