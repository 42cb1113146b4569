"""Whole runs of trainings on a real GPU, into an MLflow store: ``pytest -m gpu tests/sinks``."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.ends.harness import Case, check, play
from tests.ends.kinds import send
from trackside.destinations.mlflow.tags import counts_in

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.gpu, pytest.mark.filterwarnings("default")]

TRAIN = """
import torch

weights = torch.ones(256, 256, device="cuda")
table, index = torch.zeros(4, device="cuda"), torch.tensor([10], device="cuda")

def train(count, start=0):
    for step in range(start, start + count):
        loss = (weights * step).mean()
        trackside.log({"loss": loss, "lr": loss / 10}, step=step)

def keep_busy(seconds):
    torch.cuda._sleep(int(seconds * 2e9))

run = trackside.start("gpu")
train(1)
torch.cuda.synchronize()
"""

CLEAN = Case("clean", "train(199, 1)", "FINISHED", points=200, reason="exit code 0")
OUT_OF_MEMORY = Case(
    "out of memory",
    """
torch.cuda.set_per_process_memory_fraction(0.05)
keep_busy(0.5)
train(19, 1)
kept = []
while True:
    kept.append(torch.empty(1 << 26, device="cuda"))
""",
    "FAILED",
    1,
    reason="OutOfMemoryError",
    stderr="OutOfMemoryError",
)
# All of it is queued behind half a second of work: nothing has been read when the kernel fails.
ASSERTION = Case(
    "a kernel fails",
    """
keep_busy(0.5)
train(19, 1)
table[index]
train(5, 20)
torch.cuda.synchronize()
""",
    "FAILED",
    None,
    reason="device-side assert",
)
KILLED = Case(
    "SIGKILL",
    """
train(19, 1)
torch.cuda.synchronize()
emit(1, 20)
keep_busy(20)
train(5, 21)
ready()
time.sleep(60)
""",
    "FAILED",
    -signal.SIGKILL,
    points=21,
    act=send(signal.SIGKILL),
)
FORKED = Case(
    "a forked child",
    """
keep_busy(0.5)
train(10, 1)
child = os.fork()
if child == 0:
    trackside.log({"loss": 99.0, "lr": 1.0}, step=99)
    trackside.log({"loss": weights, "lr": 1.0}, step=100)
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
train(9, 11)
""",
    "FINISHED",
)


@pytest.fixture(autouse=True)
def _a_gpu() -> None:
    """Leave these tests out without one."""
    if not pytest.importorskip("torch").cuda.is_available():
        pytest.skip("no GPU")


@pytest.mark.parametrize(
    ("case", "lost"),
    [(CLEAN, 0), (OUT_OF_MEMORY, 0), (ASSERTION, 10), (KILLED, 10), (FORKED, 0)],
    ids=lambda value: value.name if isinstance(value, Case) else "",
)
def test_end(case: Case, lost: int, tmp_path: Path) -> None:
    """All that was computed before the end is in the run, and the run says how many points are lost."""
    case = Case(**{**vars(case), "script": TRAIN + case.script})
    seen = play(case, tmp_path)
    story = f"{seen.stderr}\n{seen.shipper_log}\n{seen}"
    assert check(case, seen) == [], story
    assert counts_in(seen.tags).get("dropped", 0) == lost, story
