"""Child processes that log, and runs that are passed to them."""

from __future__ import annotations

import copy
import json
import os
import pickle
from typing import TYPE_CHECKING, Any

import pytest

import trackside
from tests.parts import parts_of
from tests.support.program import run_python
from trackside.event_bus.bus import Bus

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path

    from trackside.session.run import Run

SCRIPT = """
import concurrent.futures, json, logging, multiprocessing, os, sys
import trackside

def work(number):
    trackside.log({"loss": 1.0}, step=number)
    trackside.log({"loss": 1.0}, step=number + 1)

def told(run):
    print(json.dumps([run.run_id, run.tracking_uri, run.flush(), run.counts]), flush=True)
    run.finish()
    nested = trackside.start("nested", parent=run)
    print(json.dumps([nested.link.experiment_name, nested._assembly.meta.target.parent_journal]), flush=True)
    nested.finish()

def first_of_its_own(number):
    with trackside.start("own"):
        trackside.log({"loss": 1.0}, step=number)

def in_children(method, function, arguments):
    context = multiprocessing.get_context(method)
    children = [context.Process(target=function, args=(one,)) for one in arguments]
    for child in children:
        child.start()
        child.join()
    assert all(child.exitcode == 0 for child in children)

if __name__ == "__main__":
    with trackside.start("parent") as run:
        METHODS
    print(run.status, flush=True)
"""


def play(directory: Path, act: str, *, started: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the script offline."""
    script = SCRIPT.replace("METHODS", act)
    if not started:
        script = script.replace('with trackside.start("parent") as run:', "if True:").replace(
            "print(run.status, flush=True)", ""
        )
    (directory / "train.py").write_text(script)
    environment = {**os.environ, "TRACKSIDE_MODE": "offline"}
    return run_python("train.py", cwd=directory, check=True, env=environment)


WARNING = "is not kept: the run belongs to process"
GENERIC = "no run is started and no sink attached"


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_the_first_child_that_logs_says_what_to_do(method: str, tmp_path: Path) -> None:
    """One warning for all of them, however they are made. The parent's run is as it was."""
    done = play(tmp_path, f'in_children("{method}", work, range(3))')
    assert done.stderr.count(WARNING) == 1, done.stderr
    assert "call trackside.start() in this one" in done.stderr
    assert GENERIC not in done.stderr
    assert done.stdout.split() == ["FINISHED"]


def test_a_child_of_a_process_without_a_run(tmp_path: Path) -> None:
    """There the warning is the one that any process gets, and a program of its own is no child."""
    done = play(tmp_path, 'in_children("spawn", work, [1])', started=False)
    assert done.stderr.count(GENERIC) == 1
    assert WARNING not in done.stderr


def test_a_child_with_a_run_of_its_own_is_not_warned(tmp_path: Path) -> None:
    """That is the remedy."""
    done = play(tmp_path, 'in_children("fork", first_of_its_own, [1])')
    assert WARNING not in done.stderr
    assert len(list((tmp_path / ".trackside").glob("*/meta.json"))) == 2


def test_a_child_of_another_rank_is_as_quiet_as_its_parent(tmp_path: Path) -> None:
    """Only rank 0 is meant to log."""
    act = 'os.environ["RANK"] = "1"; in_children("spawn", work, [1])'
    assert play(tmp_path, act, started=False).stderr == ""


def test_a_run_that_is_passed_to_a_child_knows_its_names(tmp_path: Path) -> None:
    """And can be the parent of a run there. It ends nothing."""
    done = play(tmp_path, 'in_children("spawn", told, [run])')
    first, second, status = done.stdout.splitlines()
    journal = next((tmp_path / ".trackside").glob("*-parent-*"))
    assert json.loads(first) == [None, f"sqlite:///{tmp_path / 'mlflow.db'}", True, [0, 0, 0]]
    assert json.loads(second) == ["nested", str(journal)]
    assert status == "FINISHED"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """An offline run on a bus of its own, with credentials in its address."""
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:open-sesame@host:5000")
    return trackside.start("x", bus=Bus())


def test_a_pickle_holds_no_secret(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may lie in a checkpoint. A child finds the credentials in its environment, as its parent did."""
    data = pickle.dumps(run)
    run.finish()
    assert b"open-sesame" not in data
    handle = pickle.loads(data)
    again: Any = pickle.loads(pickle.dumps(handle))
    assert again.link == handle.link == run.link
    assert again.tracking_uri == run.tracking_uri
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert "open-sesame" not in handle.link.tracking_uri


def test_copies_are_the_run_itself(run: Run) -> None:
    """Frameworks copy trainers and configurations, whatever these hold."""
    held = {"run": run, "bus": run.bus}
    copied = copy.deepcopy(held)
    assert copied["run"] is run is copy.copy(run)
    assert copied["bus"] is run.bus is copy.copy(run.bus)
    run.finish()


def test_a_bus_elsewhere_has_no_sinks(run: Run) -> None:
    """The default bus is the other process's own, others have their name."""
    assert pickle.loads(pickle.dumps(trackside.bus)) is trackside.bus
    other: Bus = pickle.loads(pickle.dumps(run.bus))
    assert (other.name, other.sinks) == (run.bus.name, ())
    run.finish()


def test_a_sink_says_why_it_stays_here(run: Run) -> None:
    """Instead of naming a lock somewhere within it."""
    with pytest.raises(TypeError, match="a run belongs to the process that started it"):
        pickle.dumps(parts_of(run).sink)
    run.finish()


def test_a_run_that_logs_nothing_can_be_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The code for all ranks is the same."""
    monkeypatch.setenv("TRACKSIDE_MODE", "disabled")
    handle = pickle.loads(pickle.dumps(trackside.start("x", bus=Bus())))
    handle.finish()
    assert (handle.run_id, handle.url, handle.link.run_id) == (None, "", None)
