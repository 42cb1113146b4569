"""The working folder is removed under the shipper: it leaves soon, brings nothing back, and says so."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.support.program import run_python
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json
from trackside.journal.meta import State

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.process, pytest.mark.timeout(300)]

DEADLINE = 60.0
"""Seconds; it takes 6 at most on a quiet machine, and an hour where it goes wrong."""

SCRIPT = """
import logging, os, sys, time
import trackside

logging.basicConfig(level=logging.WARNING, format="LOG %(message)s", stream=sys.stdout)
run = trackside.start("x")
print("shipper", run._assembly.shipper.pid, flush=True)
sys.stdin.readline()
for step in range(500):
    trackside.log({"loss": 0.5}, step=step)
print("emitted", flush=True)
"""


class Training:
    """A training in ``root``: its database in ``store``, its journals in ``journals``."""

    def __init__(self, root: Path, script: str = SCRIPT, **environment: str) -> None:
        self.root = root
        self.store, self.journals = root / "store", root / "journals"
        self.store.mkdir()
        self.uri = new_database(self.store)
        self.environment = {
            **os.environ,
            "MLFLOW_TRACKING_URI": self.uri,
            "TRACKSIDE_DIR": str(self.journals),
            "TRACKSIDE_EXIT_TIMEOUT": "0",
            "TRACKSIDE_QUIET": "yes",
            **environment,
        }
        self.process = subprocess.Popen(
            [sys.executable, "-c", script],
            cwd=root,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.output = ""
        self.shipper = psutil.Process(int(self.read_until("shipper").split()[1]))

    def read_until(self, word: str) -> str:
        """The first line that begins with ``word``."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            if line.startswith(word):
                return line
        raise AssertionError(self.output)

    def go_on(self) -> None:
        """Let the script continue."""
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Wait for its end."""
        self.output += self.process.communicate(timeout=DEADLINE)[0]
        assert self.process.returncode == 0, self.output

    def pause_shipper(self) -> None:
        """Stop the shipper where it is."""
        self.shipper.send_signal(signal.SIGSTOP)

    def wait_for_shipper(self) -> None:
        """Let the shipper continue, and wait until it has left."""
        with contextlib.suppress(psutil.NoSuchProcess):
            self.shipper.send_signal(signal.SIGCONT)
        wait_for(lambda: not is_alive(self.shipper))

    def state(self) -> State | None:
        """What the shipper said last."""
        found = list(self.journals.glob("*/meta.json"))
        return read_json(JournalDirectory(found[0].parent).state, State) if found else None

    def run_in_mlflow(self) -> tuple[str, int]:
        """Status and number of points of the only run."""
        client = MlflowClient(self.uri)
        (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
        return run.info.status, len(client.get_metric_history(run.info.run_id, "loss"))


def wait_for(condition) -> None:
    """Wait until ``condition()`` holds."""
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def is_alive(process: psutil.Process) -> bool:
    """Whether it is there, and no zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


@pytest.fixture
def trainings() -> Iterator[list[Training]]:
    """Whoever is put in here is ended with the test."""
    made: list[Training] = []
    yield made
    for training in made:
        for process in (training.process, training.shipper):
            if isinstance(process, subprocess.Popen) or is_alive(process):
                process.kill()
        training.process.communicate()


@pytest.mark.parametrize("removed", [["journals"], ["journals", "store"], ["store", "journals"]])
def test_removed_as_soon_as_training_has_ended(
    tmp_path: Path, trainings: list[Training], removed: list[str]
) -> None:
    """What was emitted still arrives where there is a database. No folder comes back."""
    training = Training(tmp_path)
    trainings.append(training)
    wait_for(lambda: (state := training.state()) is not None and state.phase == "shipping")
    training.pause_shipper()
    training.go_on()
    training.end()
    for name in removed:
        shutil.rmtree(tmp_path / name)
    training.wait_for_shipper()
    kept = {path.name for path in tmp_path.iterdir()} - {"mlruns"}  # which MLflow 3.6 made at the start
    assert kept == {"store"} - {*removed}
    if "store" not in removed:
        assert training.run_in_mlflow() == ("FINISHED", 500)


def test_removed_while_the_shipper_starts(tmp_path: Path, trainings: list[Training]) -> None:
    """It makes no run that it could tell nothing about, and no empty database."""
    training = Training(tmp_path, TRACKSIDE_START_TIMEOUT="0")
    trainings.append(training)
    training.pause_shipper()
    training.go_on()
    training.end()
    shutil.rmtree(training.journals)
    shutil.rmtree(training.store)
    training.wait_for_shipper()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("when", ["starting", "shipping"])
def test_only_the_database_is_removed(tmp_path: Path, trainings: list[Training], when: str) -> None:
    """The journal stays and says why. Neither the shipper nor ``sync`` makes an empty database."""
    training = Training(tmp_path, **({"TRACKSIDE_START_TIMEOUT": "0"} if when == "starting" else {}))
    trainings.append(training)
    if when == "shipping":
        wait_for(lambda: (state := training.state()) is not None and state.phase == "shipping")
    training.pause_shipper()
    training.go_on()
    training.end()
    shutil.rmtree(training.store)
    training.wait_for_shipper()
    state = training.state()
    assert state is not None
    assert state.phase == "stopped"
    if when == "shipping":
        assert_sync_says_removed(training)
    assert not training.store.exists()


def assert_sync_says_removed(training: Training) -> None:
    """``trackside sync`` fails with the reason, soon."""
    synced = run_python(
        "-m",
        "trackside",
        "sync",
        "--give-up-after",
        "0.1",
        cwd=training.root,
        timeout=DEADLINE,
        env=training.environment,
    )
    assert synced.returncode == 1
    assert "was removed" in synced.stdout, synced.stdout + synced.stderr


ALIVE = """
import logging, os, shutil, signal, sys, time
import trackside

logging.basicConfig(level=logging.WARNING, format="LOG %(message)s", stream=sys.stdout)
run = trackside.start("x")
print("shipper", run._assembly.shipper.pid, flush=True)
trackside.log({"loss": 0.5}, step=0)
run.flush()
while os.path.exists(os.environ["TRACKSIDE_DIR"]):  # the shipper may write there at the same moment
    shutil.rmtree(os.environ["TRACKSIDE_DIR"], ignore_errors=True)
if "KILL" in os.environ:
    os.kill(run._assembly.shipper.pid, signal.SIGKILL)
    while run._assembly.shipper.is_running():
        time.sleep(0.01)
time.sleep(5.1)  # the sink looks at its shipper every 5 s
for step in range(1, 500):
    trackside.log({"loss": 0.5}, step=step)
print("dropped", run.counts.dropped, "restarts", run._assembly.shipper.restarts, flush=True)
run.finish()
"""


def test_the_journal_is_removed_while_training_goes_on(tmp_path: Path, trainings: list[Training]) -> None:
    """One warning. The shipper that has it open delivers everything, and the end."""
    training = Training(tmp_path, ALIVE, TRACKSIDE_EXIT_TIMEOUT="60")
    trainings.append(training)
    training.end()
    training.wait_for_shipper()
    assert training.output.count("was removed while the training runs") == 1, training.output
    assert training.output.count("LOG") == 1, training.output
    assert training.run_in_mlflow() == ("FINISHED", 500)
    assert not training.journals.exists()


def test_the_journal_is_removed_and_the_shipper_dies(tmp_path: Path, trainings: list[Training]) -> None:
    """Points are dropped and counted, which is said once, and no shipper is started in vain."""
    training = Training(tmp_path, ALIVE, KILL="yes", TRACKSIDE_EXIT_TIMEOUT="60")
    trainings.append(training)
    training.end()
    dropped = int(training.output.partition("dropped ")[2].split()[0])
    assert dropped > 400, training.output
    assert "restarts 0" in training.output
    assert training.output.count("What was not delivered is lost") == 1, training.output
    assert training.output.count("LOG") <= 2, training.output
