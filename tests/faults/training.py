"""A training process under test: a script with a real shipper, whose end is watched from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import psutil

from tests.faults.servers import wait_until
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json
from trackside.journal.lock import is_locked
from trackside.journal.meta import State

if TYPE_CHECKING:
    from pathlib import Path

Play = Callable[..., "Training"]
"""Starts a script; see the fixture ``play``."""

PREAMBLE = """
import json, logging, os, sys, time
import trackside

logging.basicConfig(level=logging.WARNING, format="LOG %(message)s", stream=sys.stdout)

def emit(count, start=0, pause=0.0):
    costs = []
    for i in range(start, start + count):
        begun = time.perf_counter()
        trackside.log({"loss": 1.0 / (i + 1), "lr": 0.1}, step=i)
        costs.append(time.perf_counter() - begun)
        if pause:
            time.sleep(pause)
    return sorted(costs)[len(costs) // 2]

def say(**values):
    print("SAY " + json.dumps(values), flush=True)

def wait_for(name):
    say(waits=name)
    for _ in range(6000):
        if os.path.exists(name):
            return
        time.sleep(0.02)
    raise SystemExit(f"{name} did not come")

def memory(pid="self"):
    with open(f"/proc/{pid}/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("RssAnon"))

def shipper_pid(run):
    return run._assembly.shipper.pid
"""


class Training:
    """Runs ``script`` behind a preamble that offers ``emit``, ``say``, ``wait_for`` and ``memory``."""

    def __init__(self, directory: Path, uri: str, script: str, **environment: str) -> None:
        self.directory = directory
        self.said: dict[str, Any] = {}
        self.output: list[str] = []
        (directory / "train.py").write_text(PREAMBLE + textwrap.dedent(script))
        self.process = subprocess.Popen(
            [sys.executable, "train.py"],
            cwd=directory,
            env={**_clean_environment(), **self._settings(uri), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def _settings(self, uri: str) -> dict[str, str]:
        return {
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_HTTP_REQUEST_TIMEOUT": "5",
            "TRACKSIDE_DIR": str(self.directory / "journals"),
            "TRACKSIDE_START_TIMEOUT": "60",
            "TRACKSIDE_START_WAIT": "on",  # most faults are to come once the run is open
            "TRACKSIDE_EXIT_TIMEOUT": "60",
            "PYTHONUNBUFFERED": "1",
        }

    def wait_to_be_asked(self, name: str) -> None:
        """Read on until the script waits for ``name``."""
        self._read_until(lambda: self.said.get("waits") == name, f"it waited for {name}")

    def wait_to_say(self, name: str) -> None:
        """Read on until the script has said what ``name`` is."""
        self._read_until(lambda: name in self.said, f"it said {name}")

    def read_until(self, words: str) -> None:
        """Read on until the script prints ``words``."""
        self._read_until(lambda: words in self.text, f"it printed {words!r}")

    def _read_until(self, condition: Callable[[], bool], what: str) -> None:
        assert self.process.stdout is not None
        while not condition():
            line = self.process.stdout.readline()
            assert line, f"it ended before {what}: {self.text}"
            self._take(line)

    def go(self, name: str) -> None:
        """Let a script that waits for ``name`` continue."""
        (self.directory / name).touch()

    def end(self, timeout: float = 90.0) -> int:
        """Wait for its end. The exit code."""
        rest, _ = self.process.communicate(timeout=timeout)
        for line in rest.splitlines(keepends=True):
            self._take(line)
        return self.process.returncode

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def abandon(self) -> None:
        """Leave no process behind."""
        for journal in self.journals:
            state = read_json(journal.state, State)
            if state is not None and psutil.pid_exists(state.pid) and _is_shipper(state.pid):
                os.kill(state.pid, signal.SIGKILL)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def text(self) -> str:
        """All it printed so far."""
        return "".join(self.output)

    @property
    def journals(self) -> list[JournalDirectory]:
        """Its journals, as long as they are there."""
        found = (self.directory / "journals").glob("*/meta.json")
        return [JournalDirectory(path.parent) for path in found]

    @property
    def journal(self) -> JournalDirectory:
        """Its only journal."""
        (journal,) = self.journals
        return journal

    @property
    def state(self) -> State:
        """What its shipper says of itself."""
        state = read_json(self.journal.state, State)
        assert state is not None
        return state

    def log(self) -> str:
        """The shippers' logs, with what the script said."""
        return "\n".join([self.text, *(j.log.read_text() for j in self.journals if j.log.exists())])

    def kill_shipper(self) -> None:
        """SIGKILL for the shipper, and wait until it is gone."""
        pid = self.state.pid
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _is_shipper(pid), 10)

    def dismiss_shipper(self) -> None:
        """SIGTERM for the shipper of a dead process: it leaves the rest to ``trackside sync``."""
        pid = self.state.pid
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not _is_shipper(pid), 60, self.log)
        wait_until(
            lambda: not is_locked(self.journal.lock), 60, self.log
        )  # the last that an ending process lets go

    def wait_until_delivered(self, timeout: float = 90.0) -> None:
        """Wait until no journal is left."""
        wait_until(lambda: not self.journals, timeout, self.log)

    def _take(self, line: str) -> None:
        self.output.append(line)
        if line.startswith("SAY "):
            self.said.update(json.loads(line[4:]))


def _is_shipper(pid: int) -> bool:
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and any(
            "trackside.shipper" in word for word in process.cmdline()
        )
    except psutil.Error:
        return False


def _clean_environment() -> dict[str, str]:
    """This process's environment, without what pytest and the tests in it have set."""
    ours = ("MLFLOW_HTTP", "PYTEST_")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def age(path: Path) -> float:
    """Seconds since ``path`` was written."""
    return time.time() - path.stat().st_mtime
