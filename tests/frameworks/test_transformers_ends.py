"""How a run of Hugging Face's Trainer ends, and how it is resumed: real processes, really killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

pytest.importorskip("transformers")

from mlflow.tracking import MlflowClient

from tests.ends.harness import wait_until_delivered, wait_until_settled
from tests.support import recorder
from tests.support.job import Job, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [pytest.mark.frameworks, pytest.mark.outside]

PATIENCE = 240.0
ROOT = Path(__file__).parents[2]

TRAIN = """
from transformers import TrainerCallback
import trackside.integrations.transformers
from tests.frameworks.hf import arguments, trainer

class At(TrainerCallback):
    def __init__(self, step, act):
        self.step, self.act = step, act

    def on_step_end(self, args, state, control, **_):
        if state.global_step == self.step:
            self.act()

def train(*callbacks, resume=None, **options):
    args = arguments(report_to="trackside", **options)
    made = trainer(args, callbacks=list(callbacks))
    made.train(resume_from_checkpoint=resume)
    return made

def kill(number):
    return lambda: os.kill(os.getpid(), number)

def fail(error):
    raise error
"""


def play(job: Job, script: str, act: Callable[[subprocess.Popen[bytes]], None] | None = None) -> int:
    """Run the script, and return its exit code."""
    process = job.train(TRAIN + script, PYTHONPATH=str(ROOT))
    if act is not None:
        act(process)
    code = process.wait(PATIENCE)
    wait_until_delivered(job.journals, PATIENCE)
    return code


JUST_IN_TIME = """
def stop():
    kill(signal.SIGTERM)()
    time.sleep(5)

train(At(2, stop), enable_jit_checkpoint=True, max_steps=50)
assert os.path.isdir("out/checkpoint-2") or os.path.isdir("out/checkpoint-3")
"""

ENDS = {
    "an exception": (
        "train(At(2, lambda: fail(ValueError('bad batch'))))",
        1,
        "FAILED",
        "ValueError: bad batch",
    ),
    "caught": (
        "try: train(At(2, lambda: fail(ValueError('bad batch'))))\nexcept ValueError: pass",
        0,
        "FAILED",
        "the training did not reach its end",
    ),
    "Ctrl-C": ("train(At(2, kill(signal.SIGINT)))", -2, "KILLED", "Ctrl-C"),
    "SIGTERM": ("train(At(2, kill(signal.SIGTERM)))", -15, "KILLED", "SIGTERM"),
    "SIGKILL": ("train(At(2, kill(signal.SIGKILL)))", -9, "FAILED", "died without a word"),
    "a checkpoint just in time": (
        JUST_IN_TIME,
        0,
        "KILLED",
        "SIGTERM",
    ),
    "an evaluation fails after the training": (
        "train().evaluate(eval_dataset=[{'input_ids': 'text'}])",
        1,
        "FAILED",
        "",
    ),
    "the end": ("train()", 0, "FINISHED", "exit code 0"),
}


@pytest.mark.parametrize("case", ENDS)
def test_the_status_is_true(tmp_path: Path, case: str) -> None:
    """Whatever ends the training. Each step that was logged is there once."""
    script, code, status, reason = ENDS[case]
    job = Job(tmp_path)
    assert play(job, script) == code, (tmp_path / "stderr").read_text()
    run = recorder.only_run(job.records)
    assert run.status == status
    assert reason in run.reason
    logged = run.steps("train/loss")
    assert logged == Counter(sorted(logged))
    assert 1 in logged


def histories(job: Job) -> dict[str, Counter[int]]:
    """The steps of the loss of each run, each as often as it is there."""
    client = MlflowClient(job.uri)
    runs = client.search_runs(["0"])
    return {
        run.info.run_id: Counter(
            metric.step for metric in client.get_metric_history(run.info.run_id, "train/loss")
        )
        for run in runs
    }


def test_a_training_resumes_the_run_of_its_checkpoint(tmp_path: Path) -> None:
    """Killed at a checkpoint, then trained from it. A training that starts anew has a run of its own."""
    job = Job(tmp_path, on_mlflow=True)
    saving = "save_strategy='steps', save_steps=2, max_steps={}"
    kill = f"""
class KilledAtSave(TrainerCallback):
    def on_save(self, args, state, control, **_):
        if state.global_step == 4:
            trackside.current_run().run_id
            os.kill(os.getpid(), signal.SIGKILL)
train(KilledAtSave(), {saving.format(6)})
"""
    assert play(job, kill) == -signal.SIGKILL
    settled = wait_until_settled(job.uri, job.journals)
    assert settled is not None
    assert settled.info.status == "FAILED"
    assert play(job, f"train(resume=True, {saving.format(6)})") == 0, (tmp_path / "stderr").read_text()
    assert histories(job) == {settled.info.run_id: Counter(range(1, 7))}
    assert play(job, f"train({saving.format(6)})") == 0
    assert len(histories(job)) == 2
    longer = f"train(resume='out/checkpoint-6', {saving.format(8)})"
    assert play(job, longer) == 0
    latest = next(run_id for run_id in histories(job) if run_id != settled.info.run_id)
    assert histories(job)[latest] == Counter(range(1, 9))
    client = MlflowClient(job.uri)
    assert {client.get_run(run_id).info.status for run_id in histories(job)} == {"FINISHED"}


RANKS = """
import os, signal, sys
sys.path.insert(0, os.environ["ROOT"])
if os.environ["RANK"] == "0":
    import tests.support.recorder
    tests.support.recorder.record_instead_of_mlflow()
import trackside
"""


def torchrun(job: Job, script: str) -> int:
    """Run the script on two ranks. Returns torchrun's exit code."""
    (job.directory / "train.py").write_text(RANKS + TRAIN + script)
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0"]
    with (job.directory / "stderr").open("ab") as output:
        done = subprocess.run(
            [*command, "--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "train.py"],
            cwd=job.directory,
            env={
                **job.environment,
                "ROOT": str(ROOT),
                "OMP_NUM_THREADS": "1",
            },
            stdout=output,
            stderr=output,
            timeout=PATIENCE,
            check=False,
        )
    wait_for(lambda: bool(recorder.read_runs(job.records)))
    wait_until_delivered(job.journals, PATIENCE)
    return done.returncode


def test_two_ranks_have_one_run(tmp_path: Path) -> None:
    """The first rank logs."""
    job = Job(tmp_path)
    assert torchrun(job, "train(ddp_backend='gloo')") == 0, (tmp_path / "stderr").read_text()
    run = recorder.only_run(job.records)
    assert run.steps("train/loss") == Counter(range(1, 5))
    assert run.status == "FINISHED"


def test_another_rank_fails(tmp_path: Path) -> None:
    """The run says which one, and why."""
    job = Job(tmp_path)
    script = """
def broken():
    if os.environ["RANK"] == "1":
        raise ValueError("a bad card")
train(At(2, broken), ddp_backend="gloo", max_steps=200)
"""
    assert torchrun(job, script) == 1
    run = recorder.only_run(job.records)
    assert run.status == "FAILED"
    assert "ValueError on rank 1: a bad card" in run.reason
