"""Forked children log nothing, end no run, and have a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.ends.harness import new_database, wait_until_settled
from tests.support.program import run_python
from trackside.lifecycle import fork
from trackside.lifecycle.exit_code import read_exit_code
from trackside.lifecycle.fork import abandon_in_children, keep_in_children

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")

# A run without a shipper is as much of one as the child could disturb; what it would do shows in the journal.
SCRIPT = """
import json, os, signal, sys, threading
import trackside
from trackside.journal.directory import JournalDirectory
from trackside.journal.reader import JournalReader
from trackside.event_bus.bus import Bus

signal.signal(signal.SIGUSR1, signal.SIG_IGN)
before = (sys.excepthook, threading.excepthook, sys.exit, signal.getsignal(signal.SIGTERM))
bus = Bus()
run = trackside.start("forks", bus=bus)

class Seen:
    def __init__(self):
        self.samples = []
    def on_metrics(self, sample):
        self.samples.append(sample.step)

seen = bus.attach(Seen())

def sample(step):
    bus.emit(trackside.MetricsSample(step, metrics={"loss": 0.5}))

def steps():
    reader = JournalReader(JournalDirectory(run.journal.path))
    records = [entry.record for entry in reader.read()]
    reader.close()
    return [getattr(record, "step", getattr(record, "kind", None)) for record in records]

def wakeup():
    descriptor = signal.set_wakeup_fd(-1)
    signal.set_wakeup_fd(descriptor)
    return descriptor

def say(**facts):
    os.write(1, json.dumps(facts).encode() + b"\\n")

sample(1)
pid = os.fork()
if pid == 0:
    {child}
status = os.waitpid(pid, 0)[1]
sample(2)
ours = wakeup() == run._assembly.shipper.pipe.write_end
say(status=status, wakeup=ours, seen=seen.samples, kept=steps(), run=run.status)
os._exit(0)
"""


def play(child: str, directory: Path) -> list[dict[str, Any]]:
    """What child and parent said."""
    environment = {**os.environ, "TRACKSIDE_DIR": str(directory / "journals"), "TRACKSIDE_MODE": "offline"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.replace("{child}", child.strip().replace("\n", "\n    "))],
        env=environment,
        cwd=directory,
        capture_output=True,
        timeout=60,
        check=True,
    )
    return [json.loads(line) for line in done.stdout.splitlines()]


UNDISTURBED = {"wakeup": True, "seen": [1, 2], "kept": ["started", 1, 2], "run": "RUNNING"}


@pytest.mark.wheel
def test_a_child_is_as_its_parent_was_before(tmp_path: Path) -> None:
    """Hooks are gone, samples go nowhere, the run's methods do nothing. The bus can be used anew."""
    child = """
sample(99)
run.finish()
run.flush()
after = (sys.excepthook, threading.excepthook, sys.exit, signal.getsignal(signal.SIGTERM))
mine = bus.attach(Seen())
sample(100)
say(restored=after == before, wakeup=wakeup(), old=seen.samples, new=mine.samples, id=run.run_id)
sys.stdout.flush()
os._exit(0)
"""
    from_child, from_parent = play(child, tmp_path)
    assert from_child == {"restored": True, "wakeup": -1, "old": [1], "new": [100], "id": None}
    assert from_parent == {"status": 0, **UNDISTURBED}


@pytest.mark.parametrize(
    ("child", "status"),
    [
        ("sys.exit(3)", 3 << 8),
        ("raise ValueError('in the child')", 1 << 8),
        ("os.kill(os.getpid(), signal.SIGTERM)\nsignal.pause()", 15),
        ("os.kill(os.getpid(), signal.SIGKILL)", 9),
    ],
    ids=["exits", "raises", "SIGTERM", "SIGKILL"],
)
def test_a_childs_end_is_its_own(child: str, status: int, tmp_path: Path) -> None:
    """By ``sys.exit``, an exception or a signal: the parent's run is told nothing of it."""
    assert play(child, tmp_path) == [{"status": status, **UNDISTURBED}]
    journal = next((tmp_path / "journals").glob("*/meta.json")).parent
    assert read_exit_code(journal / "exit_code") is None


def test_a_child_may_start_a_run_of_its_own(tmp_path: Path) -> None:
    """The bus is free there, and the journal another one."""
    child = """
own = trackside.start("child", bus=bus)
sample(7)
say(other=own.journal.name != run.journal.name)
own.finish()
sys.exit(5)
"""
    from_child, from_parent = play(child, tmp_path)
    assert from_child == {"other": True}
    assert from_parent == {"status": 5 << 8, **UNDISTURBED}
    assert len(list((tmp_path / "journals").glob("*/meta.json"))) == 2


class Inherited:
    def __init__(self, *, broken: bool = False) -> None:
        self.broken = broken
        self.abandoned = 0

    def abandon(self) -> None:
        self.abandoned += 1
        if self.broken:
            raise RuntimeError


def test_one_that_fails_keeps_no_other_from_being_abandoned(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that asked for it are abandoned, once. What took itself out is not."""
    monkeypatch.setattr(fork, "_inherited", type(fork._inherited)())
    broken, others, out = Inherited(broken=True), [Inherited(), Inherited()], Inherited()
    for thing in (broken, *others, out):
        abandon_in_children(thing)
    keep_in_children(out)
    fork._after_fork()
    fork._after_fork()
    assert [thing.abandoned for thing in (broken, *others, out)] == [1, 1, 1, 0]


ACTIVATED = """
import os, sys
import mlflow
import trackside

def status():
    return mlflow.MlflowClient().get_run(run.run_id).info.status

run = trackside.start("x").activate()
for way in (lambda: sys.exit(0), lambda: 1 / 0, mlflow.end_run):
    pid = os.fork()
    if pid == 0:
        way()
        sys.exit(0)
    os.waitpid(pid, 0)
    print(status(), mlflow.active_run().info.run_id == run.run_id, flush=True)
"""


@pytest.mark.process
def test_a_child_does_not_end_an_activated_run(tmp_path: Path) -> None:
    """It inherits MLflow's exit hook, which ends the process's active run as FINISHED."""
    uri = new_database(tmp_path)
    environment = {**os.environ, "TRACKSIDE_DIR": str(tmp_path / "journals"), "MLFLOW_TRACKING_URI": uri}
    done = run_python("-c", ACTIVATED, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-3:] == ["RUNNING True"] * 3, done.stdout
    run = wait_until_settled(uri, tmp_path / "journals")
    assert run is not None
    assert run.info.status == "FINISHED"
