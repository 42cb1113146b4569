"""A worker that meets an unexpected error tries again, and everything still arrives.

The programs run without MLflow, as a rank that has destinations of its own does: what is tried here is the
shipper, and importing MLflow costs more than all of it.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import time
from typing import TYPE_CHECKING, Any, cast

import pytest

from tests.faults.fake import FakeDestination, until
from tests.support.program import run_python
from trackside.destinations import registry
from trackside.destinations.context import DestinationContext
from trackside.errors import DestinationFailedError
from trackside.journal import opening
from trackside.journal.directory import JournalDirectory, create_directory
from trackside.journal.files import read_json
from trackside.journal.meta import Meta, State, Target
from trackside.journal.opening import require_readable
from trackside.journal.owner import this_process
from trackside.shipper import __main__ as shipper_main

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from trackside.protocols import Destination

MISHAPS = '''
import os, resource, threading, time
from trackside.destinations.jsonl import JSONLinesDestination

START = threading.Thread.start

def outage(seconds, begin, end):
    """From now on, for so long; ended by a thread that runs before it begins."""
    ready = threading.Event()
    def wait():
        ready.set()
        time.sleep(seconds)
        end()
    START(threading.Thread(target=wait, daemon=True))
    ready.wait()
    begin()

def no_descriptors(seconds):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    outage(
        seconds,
        lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard)),
        lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
    )

def no_threads(seconds):
    def refuse(thread):
        raise RuntimeError("can't start new thread")
    outage(
        seconds,
        lambda: setattr(threading.Thread, "start", refuse),
        lambda: setattr(threading.Thread, "start", START),
    )

class Mishaps(JSONLinesDestination):
    """Writes lines, and meets something at every step."""

    def __init__(self, context):
        super().__init__(context, path="mishaps.jsonl")
        self.met = set()

    def once(self, name, error):
        if name not in self.met:
            self.met.add(name)
            raise error

    def open(self):
        self.once("open", LookupError("opening \\ud83d"))
        super().open()
        if "threads" not in self.met:
            self.met.add("threads")
            no_threads(2.0)

    def write_metrics(self, batch):
        self.once("metrics", SystemExit("leaving"))
        if "descriptors" not in self.met:
            self.met.add("descriptors")
            no_descriptors(0.6)
        super().write_metrics(batch)

    def idle(self):
        self.once("idle", ZeroDivisionError("idle"))

    def state(self):
        self.once("state", AttributeError("state"))
        return super().state()

    def write_end(self, end):
        self.once("end", AssertionError("end"))
        super().write_end(end)

class Stuck(JSONLinesDestination):
    """Hangs in a system call that nothing interrupts."""

    def __init__(self, context):
        super().__init__(context, path="stuck.jsonl")

    def write_metrics(self, batch):
        os.mkfifo("fifo")
        os.close(os.open("fifo", os.O_RDONLY))
'''

MANY = """
import time
import trackside

run = trackside.start(
    "unforeseen",
    destinations=[
        {"type": "mishaps:Mishaps", "transform": {"ranks": [1]}},
        {"type": "jsonl", "path": "beside.jsonl", "transform": {"ranks": [1]}},
    ],
)
for step in range(400):
    trackside.log({"loss": 1 / (step + 1)}, step=step)
    time.sleep(0.005)
print(run.flush(60))
run.finish()
print(run.counts)
"""

HANGS = """
import trackside

run = trackside.start("hangs", destinations=[{"type": "mishaps:Stuck", "transform": {"ranks": [1]}}])
trackside.log({"loss": 1.0}, step=1)
print(run.flush(1))
"""


def play(directory: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run the program as a rank without a run in MLflow."""
    (directory / "mishaps.py").write_text(MISHAPS)
    (directory / "train.py").write_text(script)
    return run_python(
        "train.py",
        cwd=directory,
        RANK="1",
        TRACKSIDE_DIR=str(directory / "journals"),
        TRACKSIDE_EXIT_TIMEOUT="2" if script is HANGS else "60",
        PYTHONWARNINGS="error",
    )


def steps_in(path: Path) -> list[int]:
    """The steps of the lines in ``path``."""
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_errors_and_outages_of_the_system_are_survived(tmp_path: Path) -> None:
    """No descriptor for half a second, no thread for two, and an odd error from every call of a worker.

    And each warning is an error in the training process. One shipper meets them all, and delivers every
    point once.
    """
    done = play(tmp_path, MANY)
    assert done.stdout.splitlines() == ["True", "Counts(shipped=400, rejected=0, dropped=0)"], done.stderr
    assert steps_in(tmp_path / "mishaps.jsonl") == list(range(400))
    assert steps_in(tmp_path / "beside.jsonl") == list(range(400))
    assert "died" not in done.stderr
    until(lambda: not list((tmp_path / "journals").glob("*/meta.json")))


def test_what_cannot_be_read_now_is_not_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the state the shipper would make a second run. It ends instead, and is started again."""
    journal = create_directory(tmp_path, "unreadable")
    require_readable(journal.documents())
    for path in (journal.meta, journal.state, journal.cursor("mlflow")):
        path.write_text("{}")
    require_readable(journal.documents())

    def open_own(path: Path, _flags: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE), str(path))

    monkeypatch.setattr(opening, "open_own", open_own)
    with pytest.raises(OSError, match="Too many open files"):
        require_readable(journal.documents())


def test_a_destination_that_the_system_kept_from_being_made_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No descriptor while its module is imported is no reason to do without it."""
    made = FakeDestination()
    answers: list[Any] = [OSError(errno.EMFILE, "Too many open files"), MemoryError(), made]

    def make(*_: object, **__: object) -> Destination:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return cast("Destination", answer)

    monkeypatch.setattr(registry, "make", make)
    monkeypatch.setattr(shipper_main, "MAKE_PAUSES", (0.0, 0.0))
    meta = Meta("id", this_process(), Target("sqlite://"), 0, "/", 1)
    context = DestinationContext("fake", meta, tmp_path)
    assert shipper_main._make("fake", context, {}, ()) is made
    answers[:] = [OSError(errno.EMFILE, "Too many open files")] * 3
    hopeless = shipper_main._make("fake", context, {}, ())
    with pytest.raises(DestinationFailedError, match="Too many open files"):
        hopeless.open()


@pytest.mark.process
def test_a_shipper_leaves_though_its_worker_hangs(tmp_path: Path) -> None:
    """Asked to leave, it gives a call that is under way some seconds, says that it has stopped, and ends."""
    done = play(tmp_path, HANGS)
    assert done.stdout.splitlines() == ["False"], done.stderr
    (meta,) = (tmp_path / "journals").glob("*/meta.json")
    journal = JournalDirectory(meta.parent)
    state = read_json(journal.state, State)
    assert state is not None
    os.kill(state.pid, signal.SIGTERM)
    begun = time.monotonic()
    until(lambda: _is_gone(state.pid), 30)
    assert time.monotonic() - begun < 25
    left = read_json(journal.state, State)
    assert left is not None
    assert left.phase == "stopped"
    assert journal.segment_numbers()


def _is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
