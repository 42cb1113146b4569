"""A job's key, and what two jobs in one folder, or the ranks of Lightning's own launcher, make of it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.faults.fake import until
from tests.support import recorder
from tests.support.program import run_python
from trackside.rank import LAUNCHER_VARIABLES
from trackside.session import launcher
from trackside.session.launcher import is_in_a_job, is_on_one_host, job_key

if TYPE_CHECKING:
    from pathlib import Path

TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29500"}
"""What every torchrun with a fixed address and without a job id sets."""

SEVERAL_HOSTS = {
    "TORCHELASTIC_RUN_ID": "a",
    "MASTER_ADDR": "node-0",
    "WORLD_SIZE": "16",
    "LOCAL_WORLD_SIZE": "8",
}


def plain() -> dict[str, str]:
    """The environment without any launcher's variables."""
    others = ("SLURM_", "PMIX_", "TORCHELASTIC_", "MASTER_")
    return {k: v for k, v in os.environ.items() if k not in LAUNCHER_VARIABLES and not k.startswith(others)}


def test_ranks_on_several_hosts_share_what_they_are_told() -> None:
    """The launcher's ids and address. An elastic restart and another job have other ones."""
    first = {**SEVERAL_HOSTS, "RANK": "0"}
    assert job_key(first) == job_key({**first, "RANK": "1"})
    assert job_key(first) != job_key({**first, "TORCHELASTIC_RESTART_COUNT": "1"})
    assert job_key(first) != job_key({**first, "TORCHELASTIC_RUN_ID": "b"})


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        (TORCHRUN, True),
        ({**SEVERAL_HOSTS, "WORLD_SIZE": "8"}, True),
        (SEVERAL_HOSTS, False),
        ({"MASTER_ADDR": "10.0.0.7"}, False),
        ({"OMPI_COMM_WORLD_LOCAL_SIZE": "4", "OMPI_COMM_WORLD_SIZE": "4"}, True),
    ],
)
def test_whether_a_job_is_on_one_host(environment: dict[str, str], expected: bool) -> None:
    """By its address, or because all of its ranks are here."""
    assert is_on_one_host(environment) is expected


def test_an_allocations_ids_name_no_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch script may start several jobs. What srun starts as several tasks is one."""
    allocation = {"SLURM_JOB_ID": "7", "SLURM_PROCID": "0"}
    step = {**allocation, "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4"}
    before = job_key(allocation), job_key(step)
    monkeypatch.setattr(launcher, "launcher_pid", lambda _: 1)
    assert job_key(allocation) != before[0]
    assert job_key(step) == before[1]


def test_only_a_launcher_makes_a_job() -> None:
    """A process by itself has a key too, in case it becomes a launcher."""
    assert not is_in_a_job({})
    assert is_in_a_job({"RANK": "0"})
    assert job_key({}) == job_key({})


KEY = "from trackside.session.launcher import job_key; print(job_key(), flush=True)"
CHILDREN = """
import os, subprocess, sys
from trackside.session.launcher import job_key
ranks = [dict(os.environ, LOCAL_RANK=str(n), WORLD_SIZE="2", **{extra}) for n in {numbers}]
script = ["-c", {key!r}]
commands = [[sys.executable, *script], ["bash", "-c", '"$0" "$@"; true', sys.executable, *script]]
for rank, command in zip(ranks, commands):
    subprocess.run(command, env=rank, check=True)
"""
SPAWNED = """
import multiprocessing, os
def rank(number):
    os.environ.update(RANK=str(number), LOCAL_RANK=str(number), MASTER_ADDR="localhost", MASTER_PORT="12355")
    from trackside.session.launcher import job_key
    print(job_key(), flush=True)
if __name__ == "__main__":
    for method in ("spawn", "fork", "forkserver"):
        for number in range(2):
            process = multiprocessing.get_context(method).Process(target=rank, args=(number,))
            process.start()
            process.join()
"""


def keys_of(directory: Path, script: str) -> list[str]:
    """The keys that a script prints."""
    file = directory / "launch.py"
    file.write_text(script)
    done = run_python(str(file), check=True, env=plain())
    return done.stdout.split()


def test_ranks_started_by_one_process_share_its_key(tmp_path: Path) -> None:
    """With a wrapper in between, or without, and no other launcher's ranks have the same one."""
    torchrun = {**TORCHRUN, "RANK": "0", "TORCHELASTIC_RESTART_COUNT": "0"}
    script = CHILDREN.format(extra=repr(torchrun), numbers="(0, 1)", key=KEY)
    first, second = (keys_of(tmp_path, script) for _ in range(2))
    assert len(first) == len(second) == 2
    assert first[0] == first[1] != second[0] == second[1]


def test_ranks_that_multiprocessing_started_share_a_key(tmp_path: Path) -> None:
    """Their variables are set in them, by the program itself."""
    first, second = (keys_of(tmp_path, SPAWNED) for _ in range(2))
    assert len(first) == 6
    assert len(set(first)) == len(set(second)) == 1
    assert first != second


def test_a_process_that_starts_the_other_ranks_shares_their_key(tmp_path: Path) -> None:
    """So does Lightning: rank 0 is the launcher, and learns the address after its run has started."""
    told = {"NODE_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "40123"}
    script = f"""
{KEY}
{CHILDREN.format(extra=repr(told), numbers="(1, 2)", key=KEY)}
os.environ.update(LOCAL_RANK="0", WORLD_SIZE="3", **{told})
print(job_key())
"""
    keys = keys_of(tmp_path, script)
    assert len(keys) == 4
    assert len(set(keys)) == 1


TRAIN = f"""
import os, sys, time
{recorder.IN_A_SCRIPT}
import trackside

rank, place = int(os.environ["RANK"]), os.environ["PLACE"]
run = trackside.start("jobs", run_name=sys.argv[1])
open(os.path.join(place, sys.argv[1] + "-" + str(rank)), "w").close()
while len(os.listdir(place)) < 4:
    time.sleep(0.02)
if rank == 1 and sys.argv[1] == "crashing":
    raise ValueError("a bad card")
for step in range(20 if sys.argv[1] == "clean" else 3000):
    trackside.log(dict(loss=1.0), step=step)
    time.sleep(0.02)
run.finish()
"""
LAUNCH = """
import os, subprocess, sys, time
ranks = [
    subprocess.Popen(
        [sys.executable, "train.py", sys.argv[1]], env={**os.environ, **TOLD, "RANK": str(number)}
    )
    for number in range(2)
]
while any(rank.poll() is None for rank in ranks):
    if any(rank.poll() for rank in ranks):
        for rank in ranks:
            rank.terminate()
    time.sleep(0.05)
"""


def test_two_jobs_in_one_folder_with_the_same_address(tmp_path: Path) -> None:
    """The one that crashes is FAILED with its own rank's exception, the clean one FINISHED."""
    records = tmp_path / "records"
    place = tmp_path / "started"
    place.mkdir()
    told = {**TORCHRUN, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "launch.py").write_text(f"TOLD = {told}\n{LAUNCH}")
    environment = {**plain(), "PLACE": str(place), **recorder.environment(records)}
    jobs = [
        subprocess.Popen(
            [sys.executable, "launch.py", name], cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL
        )
        for name in ("crashing", "clean")
    ]
    for job in jobs:
        job.wait(timeout=100)
    until(lambda: not (tmp_path / ".trackside").exists(), timeout=60)
    crashing, clean = sorted(recorder.read_runs(records), key=lambda run: run.status)
    assert ("crashing" in crashing.journal, crashing.status) == (True, "FAILED")
    assert ("clean" in clean.journal, clean.status) == (True, "FINISHED")
    assert "a bad card" in crashing.reason
    assert "a bad card" not in clean.reason


LIGHTNING = """
import os, subprocess, sys, time
import tests.support.recorder
tests.support.recorder.record_instead_of_mlflow()
import trackside

run = trackside.start("lightning")
if "LOCAL_RANK" in os.environ:
    raise ValueError("a bad card")
child = subprocess.Popen(
    [sys.executable, *sys.argv],
    env={**os.environ, "LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1",
         "MASTER_PORT": "40123"},
)
child.wait()
os.kill(os.getpid(), 15)  # as its observer of the other processes does
time.sleep(60)
"""


def test_lightnings_own_launcher(tmp_path: Path) -> None:
    """It sets no RANK: one run all the same, FAILED with the exception of the rank that crashed."""
    records = tmp_path / "records"
    (tmp_path / "train.py").write_text(LIGHTNING)
    subprocess.run(
        [sys.executable, "train.py"],
        cwd=tmp_path,
        env={**plain(), **recorder.environment(records)},
        stderr=subprocess.DEVNULL,
        timeout=100,
        check=False,
    )
    until(lambda: not (tmp_path / ".trackside").exists(), timeout=60)
    run = recorder.only_run(records)
    assert run.status == "FAILED"
    assert "a bad card" in run.reason
