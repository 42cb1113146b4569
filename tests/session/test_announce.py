"""What a user sees of a run without asking, as a script of theirs shows it."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.ends.harness import new_database
from tests.faults.delivery import new_meta
from tests.support.program import run_python
from trackside.journal.meta import RunInfo
from trackside.session.announce import Announcer

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process

# One process, four runs: importing MLflow in each of their shippers is what takes the time.
SCRIPT = """
import logging, sys
import trackside

def run(name):
    if sys.stderr is not None:
        print(name, file=sys.stderr)
    with trackside.start("x", run_name=name, wait=True) as run:
        trackside.log({"loss": 0.5, "lr": 0.1}, step=1)
        if name == "plain":
            print("open", repr(run).split(":")[0])
    print(run.url)
    return run

def without_an_address(stderr):
    sys.stderr = None
    try:
        run("blind")
    finally:
        sys.stderr = stderr

print(repr(run("plain")))
without_an_address(sys.stderr)
logging.getLogger("trackside").setLevel(logging.WARNING)
run("silenced")
logging.getLogger("trackside").setLevel(logging.NOTSET)
logging.basicConfig(level=logging.INFO, format="LOG %(name)s %(message)s")
run("logged")
"""
PATIENCE = {"TRACKSIDE_START_TIMEOUT": "60", "TRACKSIDE_EXIT_TIMEOUT": "60"}


def run_script(script: str, directory: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run ``script`` as a user would, who has never heard of TRACKSIDE_QUIET."""
    inherited = {name: value for name, value in os.environ.items() if name != "TRACKSIDE_QUIET"}
    return run_python("-c", script, cwd=directory, check=True, env={**inherited, **PATIENCE, **environment})


def test_a_run_says_where_to_look(tmp_path: Path) -> None:
    """At its start and its end: on stderr, or through logging where that is set up. Silenced by the level.

    ``run.url`` is the address that was printed, and ``repr(run)`` tells name, id, status and counts.
    """
    uri = new_database(tmp_path)
    done = run_script(SCRIPT, tmp_path)
    opened, plain, told, *others = done.stdout.splitlines()
    run_id = plain.rpartition("/runs/")[2].partition("/")[0]
    assert plain == (
        f"http://127.0.0.1:5000/#/experiments/1/runs/{run_id}/model-metrics?workflowType=machine_learning"
    )
    assert opened == f"open <trackside.Run 'plain' ({run_id}) RUNNING"
    assert told == f"<trackside.Run 'plain' ({run_id}) FINISHED: 2 shipped, 0 rejected, 0 dropped>"
    assert len({*others}) == 3

    parts = done.stderr.partition("silenced\nlogged\n")
    before, after = parts[0].splitlines(), parts[2].splitlines()
    look = "To view it, run this command and open the address:"
    assert before[:2] == ["plain", f"trackside: logging run plain. {look}"]
    assert before[2].endswith(f"mlflow ui --backend-store-uri {uri}")
    assert before[3] == f"  {plain}"
    assert before[4:] == [f"trackside: run plain is FINISHED. {look}", before[2], before[3]]
    assert after[0] == f"LOG trackside logging run logged. {look}"
    assert after[3] == f"LOG trackside run logged is FINISHED. {look}"


def test_a_resumed_run_says_so_to_a_script_without_logging(tmp_path: Path) -> None:
    """Which run it is, how that one ended and its last step, once."""
    new_database(tmp_path)
    script = (
        "import sys, trackside\n"
        "for _ in range(2):\n"
        "    print('start', file=sys.stderr)\n"
        "    run = trackside.start('x', run_name='r', checkpoint_dir='checkpoints')\n"
        "    trackside.log({'loss': 0.5}, step=7)\n"
        "    run.finish('FAILED')\n"
        "print(run.run_id)\n"
    )
    done = run_script(script, tmp_path)
    run_id = done.stdout.strip()
    first, resumed = done.stderr.split("start\n")[1:]
    assert "resuming" not in first
    assert resumed.startswith(f"trackside: resuming run {run_id} (r), which ended as FAILED at ")
    assert resumed.splitlines()[0].endswith(" UTC, last step 7")
    assert resumed.count("resuming") == 1


def test_a_crash_says_where_to_look_too(tmp_path: Path) -> None:
    """Behind the traceback, since that is when people look at a run."""
    new_database(tmp_path)
    script = (
        "import trackside\n"
        "run = trackside.start('x', run_name='bad')\n"
        "try:\n    raise ZeroDivisionError\nfinally:\n    run.finish()"
    )
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run_script(script, tmp_path)
    lines = failed.value.stderr.splitlines()
    assert "FINISHED" not in failed.value.stderr
    assert lines.index("ZeroDivisionError") < lines.index(
        "trackside: run bad is FAILED. To view it, run this command and open the address:"
    )


def test_before_an_id_there_is_the_front_page(tmp_path: Path) -> None:
    """Offline nothing is announced, and nothing that is read of the run is None or an error."""
    script = (
        "import trackside\n"
        "with trackside.start('x', run_name='r', tracking_uri='http://u:secret@host:5000') as run:\n"
        "    trackside.log({'loss': 1})\n"
        "    print(run.url, run)\n"
    )
    done = run_script(script, tmp_path, TRACKSIDE_MODE="offline", TRACKSIDE_DIR=str(tmp_path / "j"))
    assert "secret" not in done.stdout + done.stderr
    assert done.stdout == (
        "http://host:5000 <trackside.Run 'r' (no id yet) RUNNING: 0 shipped, 0 rejected, 0 dropped>\n"
    )
    assert "logging run" not in done.stderr


def test_an_exit_code_that_is_not_known_yet_is_not_announced_as_success(tmp_path: Path) -> None:
    """``raise SystemExit(3)`` looks like a return until Python is gone: the last line names no status."""
    new_database(tmp_path)
    script = "import trackside\nrun = trackside.start('x', run_name='left')\nraise SystemExit(3)"
    with pytest.raises(subprocess.CalledProcessError) as failed:
        run_script(script, tmp_path)
    assert failed.value.returncode == 3
    assert "trackside: logged run left. To view it" in failed.value.stderr
    assert "FINISHED" not in failed.value.stderr


def test_where_to_look_is_said_once_for_a_run_and_its_children(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A sweep of a hundred runs says a hundred lines, and not the same command a hundred times."""
    monkeypatch.setattr("trackside.session.announce.has_handlers", lambda name: False)
    info = RunInfo("a" * 32, "1", "mlruns", None, name="trial 3")
    for parent in ({"parent_run_id": "b" * 32}, {"parent_journal": "c" * 32}, {}):
        Announcer(new_meta("sqlite:///mlflow.db", **parent), quiet=False).tell("run {} is FINISHED", info)
    first, second, third, *rest = capsys.readouterr().err.splitlines()
    assert first == second == "trackside: run trial 3 is FINISHED"
    assert third == f"{first}. To view it, run this command and open the address:"
    assert len(rest) == 2
