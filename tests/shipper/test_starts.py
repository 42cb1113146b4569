"""Starting the shipper from programs of all kinds: it works, or one warning says truly why it does not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database, only_run, wait_until_delivered
from tests.support import recorder
from trackside.journal.directory import JournalDirectory
from trackside.shipper.sync import sync_journal

pytestmark = pytest.mark.timeout(300)

SCRIPT = """
import logging, os, signal, sys, time
logging.basicConfig(level=logging.WARNING, format="LOG %(message)s", stream=sys.stderr)
exec(os.environ["SETUP"])
exec(os.environ.get("RECORD", ""))
import trackside
before = time.monotonic()
run = trackside.start("x", config={"lr": 0.1})
waited = time.monotonic() - before
for step in range(20):
    trackside.log({"loss": 0.5}, step=step)
exec(os.environ.get("BEFORE_THE_END", ""))
run.finish()
print(f"waited {waited:.1f} restarts {run._assembly.shipper.restarts}", file=sys.stderr)
"""


class Program:
    """Runs :data:`SCRIPT` in ``folder``, after ``setup``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.records = folder / "records"
        self.uri = ""
        self.script = folder / "train.py"
        self.script.write_text(SCRIPT)
        self.output = ""

    def use_mlflow(self) -> None:
        """Deliver to MLflow, not to a recorder."""
        self.uri = new_database(self.folder)

    def train(self, setup: str = "", *command: str, **environment: str) -> None:
        """Run it to its end, which must be a good one."""
        done = subprocess.run(
            command or [sys.executable, str(self.script)],
            cwd=self.folder,
            env={
                **os.environ,
                **({"MLFLOW_TRACKING_URI": self.uri} if self.uri else recorder.environment(self.records)),
                "RECORD": "" if self.uri else recorder.IN_A_SCRIPT,
                "TRACKSIDE_DIR": str(self.folder / "journals"),
                "TRACKSIDE_QUIET": "yes",
                "TRACKSIDE_START_TIMEOUT": "60",
                "TRACKSIDE_EXIT_TIMEOUT": "60",
                "SETUP": setup,
                **environment,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=200,
            check=False,
        )
        self.output = done.stderr
        assert done.returncode == 0, self.output

    @property
    def warnings(self) -> list[str]:
        """What it logged."""
        return [line for line in self.output.splitlines() if line.startswith("LOG")]

    @property
    def journal(self) -> JournalDirectory:
        """Its only journal."""
        (path,) = (self.folder / "journals").iterdir()
        return JournalDirectory(path)

    def assert_delivered(self) -> None:
        """All points arrived, without a warning."""
        assert (self.status(), self.warnings) == ("FINISHED", []), self.output

    def status(self) -> str:
        """The run's status once everything is delivered."""
        wait_until_delivered(self.folder / "journals")
        if not self.uri:
            run = recorder.only_run(self.records)
            assert run.steps("loss") == dict.fromkeys(range(20), 1)
            return run.status
        in_mlflow = only_run(self.uri)
        assert in_mlflow is not None, self.output
        assert len(MlflowClient(self.uri).get_metric_history(in_mlflow.info.run_id, "loss")) == 20
        return in_mlflow.info.status


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """A place to train."""
    return Program(tmp_path)


SHADOWS = ("mlflow/__init__.py", "sqlalchemy.py", "yaml.py", "sqlite3.py")


def test_packages_on_sys_path_only_and_modules_that_shadow_ours(program: Program, tmp_path: Path) -> None:
    """The shipper finds what the training finds, and nothing of the user's in place of it.

    The interpreter is one without the packages, and the working folder, on ``PYTHONPATH`` as well, holds
    modules of the user's.
    """
    program.use_mlflow()
    for name in SHADOWS:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("open('executed', 'a').close()\nraise RuntimeError('the wrong one')\n")
    base = os.path.realpath(sys.executable)
    entries = [entry for entry in sys.path if entry and entry != str(Path.cwd())]
    setup = f"sys.path.extend({entries!r})"
    program.train(setup, base, "-S", str(program.script), PYTHONPATH=str(tmp_path), PYTHONWARNINGS="error")
    program.assert_delivered()
    assert not (tmp_path / "executed").exists()


def test_an_application_that_embeds_python(program: Program, tmp_path: Path) -> None:
    """Its own program is never started. The interpreter beside its libraries is."""
    application = tmp_path / "blender"
    application.write_text("#!/bin/sh\ntouch started\n")
    application.chmod(0o700)
    program.train(f"sys.executable = {str(application)!r}")
    program.assert_delivered()
    assert not (tmp_path / "started").exists()


@pytest.mark.process
def test_an_application_that_looks_like_python(program: Program, tmp_path: Path) -> None:
    """Started as an interpreter it trains once more: that ends in its ``start()``, and happens once."""
    program.use_mlflow()
    application = tmp_path / "python3"
    application.write_text(f"#!/bin/sh\necho x >> trainings\nexec {sys.executable} {program.script}\n")
    application.chmod(0o700)
    program.train(f"sys.executable = {str(application)!r}; os.environ['SETUP'] = ''")
    assert (tmp_path / "trainings").read_text() == "x\n"
    first, last = program.warnings
    assert "was to run the shipper and ran a training instead" in first
    assert "TRACKSIDE_PYTHON" in first
    assert "trackside sync" in last
    assert sync_journal(program.journal, tracking_uri=program.uri).result == "delivered"


def test_a_program_that_does_something_else(program: Program, tmp_path: Path) -> None:
    """It exits with 0, which proves nothing: three tries, then one warning with the cause, within seconds."""
    other = tmp_path / "python3"
    other.write_text("#!/bin/sh\necho x >> tries\necho 'no such option: -c' >&2\n")
    other.chmod(0o700)
    program.train(TRACKSIDE_PYTHON=str(other))
    assert (tmp_path / "tries").read_text() == "x\n" * 3
    first, last = program.warnings
    assert "started 3 times and ended before it was ready (no such option: -c)" in first
    assert "no answer" not in program.output
    assert "The rest is kept in" in last
    assert "waited 6" not in program.output
    assert program.journal.segment_numbers()


REAP_ALL = """
import threading
def reap():
    while True:
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            time.sleep(0.01)
threading.Thread(target=reap, daemon=True).start()
"""


@pytest.mark.parametrize(
    "setup",
    ["signal.signal(signal.SIGCHLD, signal.SIG_IGN)", REAP_ALL],
    ids=["SIGCHLD ignored", "all children waited for"],
)
def test_a_dead_shipper_whose_exit_code_is_lost(program: Program, setup: str) -> None:
    """It looks like one that exited with 0. It is replaced all the same."""
    kill = "os.kill(run._assembly.shipper.pid, signal.SIGKILL)"
    program.train(
        setup,
        BEFORE_THE_END=f"run.flush(); {kill}\nwhile run._assembly.shipper.is_running(): time.sleep(0.01)",
    )
    assert "restarts 1" in program.output
    (warning,) = program.warnings
    assert "died. Starting another" in warning
    assert program.status() == "FINISHED"


def test_closed_standard_descriptors(program: Program) -> None:
    """The pipe and the channel to the shipper keep clear of their numbers."""
    close = "os.close(0), os.close(1)"
    program.train(close + "; logging.root.handlers[0].stream = sys.stderr")
    program.assert_delivered()
