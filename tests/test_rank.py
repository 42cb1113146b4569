"""Which rank a process takes itself for."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import types
from typing import TYPE_CHECKING

import pytest

from trackside import rank

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALL_VARIABLES = (*rank.RANK_VARIABLES, *rank.WORLD_SIZE_VARIABLES)


@pytest.fixture(autouse=True)
def lone_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No launcher's variables, no torch, and no warning given yet."""
    for name in ALL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    rank._warn_once.cache_clear()
    yield
    rank._warn_once.cache_clear()


def fake_torch(*, available: bool = True, initialised: bool = True) -> types.ModuleType:
    """Return what of torch get_rank() asks: rank 3 of 8."""
    torch = types.ModuleType("torch")
    torch.distributed = types.SimpleNamespace(  # type: ignore[attr-defined]
        is_available=lambda: available,
        is_initialized=lambda: initialised,
        get_rank=lambda: 3,
        get_world_size=lambda: 8,
    )
    return torch


def test_a_process_without_a_launcher_is_rank_0_of_1() -> None:
    """Nothing in the environment means a single process, which logs."""
    assert (rank.get_rank(), rank.get_world_size()) == (0, 1)


@pytest.mark.parametrize("name", rank.RANK_VARIABLES)
def test_each_launchers_variable_is_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """torchrun, Slurm, Open MPI and PMI each name the rank their own way."""
    monkeypatch.setenv(name, "5")
    assert rank.get_rank() == 5


@pytest.mark.parametrize("name", rank.WORLD_SIZE_VARIABLES)
def test_each_launchers_size_is_understood(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """... and the number of processes."""
    monkeypatch.setenv(name, "16")
    assert rank.get_world_size() == 16


def test_torchruns_rank_beats_the_one_of_the_srun_around_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`srun torchrun` gives each node a SLURM_PROCID and each process a RANK."""
    monkeypatch.setenv("SLURM_PROCID", "1")
    monkeypatch.setenv("RANK", "9")
    assert rank.get_rank() == 9


@pytest.mark.parametrize("bad", ["one", "-1", "1.0", "1_0", "٣"])
def test_a_bad_value_is_ignored_with_one_warning(
    bad: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The next variable is asked, and asking again does not warn again."""
    monkeypatch.setenv("RANK", bad)
    monkeypatch.setenv("SLURM_PROCID", "2")
    assert [rank.get_rank(), rank.get_rank()] == [2, 2]
    assert [r.getMessage().split(":")[0] for r in caplog.records] == [f"ignoring RANK={bad!r}"]


def test_an_empty_variable_counts_as_unset(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """`RANK= python train.py` is nobody's mistake worth a warning."""
    monkeypatch.setenv("RANK", "")
    assert rank.get_rank() == 0
    assert not caplog.records


def test_a_world_of_no_processes_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size of 0 is not a size."""
    monkeypatch.setenv("WORLD_SIZE", "0")
    assert rank.get_world_size() == 1


def test_an_initialised_process_group_is_believed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows; the environment only suggests."""
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setitem(sys.modules, "torch", fake_torch())
    assert (rank.get_rank(), rank.get_world_size()) == (3, 8)


@pytest.mark.parametrize(
    "torch",
    [
        fake_torch(initialised=False),
        fake_torch(available=False),
        types.ModuleType("torch"),
    ],
    ids=["not initialised", "built without distributed", "half imported"],
)
def test_a_torch_without_a_group_leaves_it_to_the_environment(
    torch: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before init_process_group torch has no answer, and some builds never do."""
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setenv("RANK", "4")
    assert rank.get_rank() == 4


def test_asking_does_not_import_torch() -> None:
    """A training loop in another framework pays nothing for torch."""
    script = "import sys, trackside.rank as r; r.get_rank(); print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


GLOO_SCRIPT = """
import json, sys
import torch.distributed as dist
from trackside.rank import get_rank, get_world_size
store, number = sys.argv[1], int(sys.argv[2])
before = get_rank()
dist.init_process_group("gloo", init_method="file://" + store, rank=number, world_size=2)
print(json.dumps([before, get_rank(), get_world_size()]))
dist.destroy_process_group()
"""


def test_two_real_processes_tell_themselves_apart(tmp_path: Path) -> None:
    """In a gloo group of two, each process finds its own rank, with no launcher's variables."""
    # Not importorskip: this process has torch hidden, and it can't be imported twice.
    if importlib.util.find_spec("torch") is None:
        pytest.skip("needs torch")
    environment = {k: v for k, v in os.environ.items() if k not in ALL_VARIABLES}
    command = [sys.executable, "-c", GLOO_SCRIPT, str(tmp_path / "store")]
    processes = [
        subprocess.Popen([*command, str(number)], stdout=subprocess.PIPE, env=environment)
        for number in range(2)
    ]
    try:
        answers = [json.loads(process.communicate(timeout=120)[0]) for process in processes]
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert answers == [[0, 0, 2], [0, 1, 2]]
