"""The shipper dies, alone or with its trainer: everything still arrives once, and the status is true."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.support import recorder
from tests.support.job import DEADLINE, Job, wait_for
from trackside.journal.files import read_json
from trackside.journal.meta import State

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process


@pytest.fixture
def job(tmp_path: Path) -> Job:
    """A place to train, with a recorder."""
    return Job(tmp_path)


@pytest.fixture
def mlflow_job(tmp_path: Path) -> Job:
    """A place to train, with a store of MLflow's."""
    return Job(tmp_path, on_mlflow=True)


def test_a_killed_shipper_is_replaced_at_the_end(mlflow_job: Job) -> None:
    """The trainer notices at ``finish()``. Points from before and after the kill arrive once."""
    job = mlflow_job
    go = job.directory / "go"
    process = job.train(
        "run = trackside.start('x')\nemit(100)\nrun.flush()\n"
        f"while not os.path.exists({str(go)!r}): time.sleep(0.01)\n"
        "emit(100, start=100)\nrun.finish()\n"
    )
    wait_for(
        lambda: (
            (job.directory / "confirmed").exists()
            and (job.directory / "confirmed").read_bytes().strip() == b"100"
        )
    )
    os.kill(job.shipper(), signal.SIGKILL)
    go.touch()
    assert process.wait(DEADLINE) == 0
    job.check("FINISHED", 200)


def test_a_killed_shipper_is_replaced_while_training_goes_on(job: Job) -> None:
    """Within seconds of emitting, not only at the end."""
    process = job.train(
        "run = trackside.start('x')\nfor i in range(1000):\n    emit(1, start=i)\n    time.sleep(0.015)\n"
    )
    first = job.shipper()
    os.kill(first, signal.SIGKILL)
    journal = job.journal()
    wait_for(lambda: (state := read_json(journal.state, State)) is not None and state.pid != first)
    assert process.poll() is None, "the replacement came only with the end"
    assert process.wait(60) == 0
    job.check("FINISHED", 1000)


def test_sync_finishes_what_a_killed_trainer_and_shipper_left(job: Job) -> None:
    """Both are SIGKILLed. ``trackside status`` shows it waiting, ``trackside sync`` delivers it as FAILED."""
    process = job.train("run = trackside.start('x')\nemit(300)\ntime.sleep(60)\n")
    shipper = job.shipper()
    os.kill(shipper, signal.SIGSTOP)
    wait_for(
        lambda: (
            (job.directory / "confirmed").exists()
            and (job.directory / "confirmed").read_bytes().strip() == b"300"
        )
    )
    process.kill()
    process.wait()
    os.kill(shipper, signal.SIGKILL)
    status = job.command("status")
    assert status.returncode == 1
    assert "waiting" in status.stdout
    synced = job.command("sync", "--allow-import", recorder.KIND)
    assert synced.returncode == 0, synced.stdout + synced.stderr
    assert "delivered" in synced.stdout
    job.check("FAILED", 300)
    assert job.command("status").returncode == 0


def test_two_syncs_at_once_deliver_once(job: Job) -> None:
    """One takes the lock, the other leaves it alone. Nothing doubles."""
    job.environment["TRACKSIDE_MODE"] = "offline"
    assert job.train("run = trackside.start('x')\nemit(300)\n").wait(60) == 0
    command = [sys.executable, "-m", "trackside", "sync", "--allow-import", recorder.KIND]
    job.records.mkdir()
    (job.records / recorder.HOLD).touch()
    both = [subprocess.Popen(command, env=job.environment, cwd=job.directory) for _ in range(2)]
    wait_for(lambda: any(process.poll() is not None for process in both))
    (job.records / recorder.HOLD).unlink()
    assert {process.wait(90) for process in both} == {0}
    job.check("FINISHED", 300)


def test_sync_leaves_a_live_run_alone(job: Job) -> None:
    """A journal whose training process lives is its own shipper's."""
    process = job.train("run = trackside.start('x')\nemit(50)\ntime.sleep(60)\n")
    job.shipper()
    synced = job.command("sync")
    assert synced.returncode == 0
    assert "running" in synced.stdout
    named = job.command("sync", str(job.journal().path))
    assert named.returncode == 1
    process.terminate()
    process.wait()
    job.check("KILLED", 50)


def test_a_shipper_told_to_go_stays_while_there_is_a_trainer(job: Job) -> None:
    """A scheduler signals every process of the job. The end still has to be told."""
    process = job.train("run = trackside.start('x')\nemit(50)\ntime.sleep(1)\nemit(50, start=50)\n")
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(job.shipper(), number)
    assert process.wait(60) == 0
    job.check("FINISHED", 100)


def test_the_next_attempt_delivers_the_leftovers_first(mlflow_job: Job) -> None:
    """Trainer and shipper killed. A new start() with the same checkpoints continues with the same run."""
    job = mlflow_job
    (job.directory / "checkpoints").mkdir()
    script = "run = trackside.start('x', checkpoint_dir='checkpoints', config=dict(lr={lr}))\n"
    first = job.train(script.format(lr=0.1) + "emit(200)\ntime.sleep(60)\n")
    shipper = job.shipper()
    os.kill(shipper, signal.SIGSTOP)
    wait_for(
        lambda: (
            (job.directory / "confirmed").exists()
            and (job.directory / "confirmed").read_bytes().strip() == b"200"
        )
    )
    first.kill()
    first.wait()
    os.kill(shipper, signal.SIGKILL)
    second = job.train(script.format(lr=0.2) + "emit(100, start=200)\n")
    assert second.wait(90) == 0
    job.check("FINISHED", 300)
    run = job.in_mlflow()
    assert run.data.params["lr"] == "0.1"
    assert "0.2" in run.data.tags["trackside.params.changed"]
    names = [artifact.path for artifact in MlflowClient(job.uri).list_artifacts(run.info.run_id)]
    assert any(name.startswith("config.resumed-") for name in names)


def test_leftovers_of_an_offline_attempt_come_first_too(mlflow_job: Job) -> None:
    """The offline attempt has no run yet: the next one makes it, and continues with it."""
    job = mlflow_job
    (job.directory / "checkpoints").mkdir()
    script = "run = trackside.start('x', checkpoint_dir='checkpoints')\n"
    assert job.train(script + "emit(50)\nsys.exit(3)\n", TRACKSIDE_MODE="offline").wait(60) == 3
    assert job.train(script + "emit(50, start=50)\n").wait(90) == 0
    job.check("FINISHED", 100)


@pytest.mark.slow
def test_shippers_killed_again_and_again_lose_nothing(job: Job) -> None:
    """Ten SIGKILLs at random moments of a 40 s training."""
    process = job.train(
        "run = trackside.start('x')\nfor i in range(20_000):\n    emit(1, start=i)\n    time.sleep(0.002)\n"
    )
    chance = random.Random(7)
    journal = job.journal()
    killed: set[int] = set()
    while process.poll() is None and len(killed) < 10:
        time.sleep(chance.uniform(0.0, 3.0))
        state = read_json(journal.state, State)
        if state is not None and state.pid not in killed:
            killed.add(state.pid)
            os.kill(state.pid, signal.SIGKILL)
    assert process.wait(120) == 0
    assert len(killed) > 3
    job.check("FINISHED", 20_000)
