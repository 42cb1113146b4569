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

from tests.support.program import run_python
from trackside import rank
from trackside.system.once import Once

if TYPE_CHECKING:
    from pathlib import Path

ALL_VARIABLES = rank.LAUNCHER_VARIABLES


@pytest.fixture(autouse=True)
def lone_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """No launcher's variables, no torch, and no warning given yet."""
    for name in ALL_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    for module in ("torch", "jax._src.distributed"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(rank, "_ignored", Once())


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
    """Each launcher names the rank its own way."""
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


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"SLURM_PROCID": "0", "OMPI_COMM_WORLD_RANK": "3"}, 3),  # mpirun in a batch script
        ({"SLURM_PROCID": "1", "OMPI_COMM_WORLD_RANK": "0"}, 0),  # mpirun, whose daemons srun has started
        ({"SLURM_PROCID": "0", "PMI_RANK": "2"}, 2),
        ({"SLURM_PROCID": "0", "HOROVOD_RANK": "1"}, 1),
        ({"SLURM_PROCID": "1", "FLUX_TASK_RANK": "4"}, 4),  # an instance of Flux in an allocation
        ({"OMPI_COMM_WORLD_RANK": "5", "PMIX_RANK": "5"}, 5),
        ({"RANK": "0", "OMPI_COMM_WORLD_RANK": "1"}, 0),  # `mpirun torchrun --standalone`: jobs of their own
        ({"RANK": "0", "LOCAL_RANK": "1"}, 0),
        ({"PMI_RANK": "0", "PMI_SIZE": "64"}, 0),  # left over from a shell
        ({"WORLD_SIZE": "8"}, 0),
    ],
)
def test_the_nearest_launcher_is_believed(
    environment: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One launcher starts another, or a batch system's shell starts one: the inner one counts."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank.get_rank() == expected


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({"LOCAL_RANK": "1"}, 1),  # Lightning's own launcher, with or without the rest of it
        ({"LOCAL_RANK": "1", "NODE_RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1"}, 1),
        ({"LOCAL_RANK": "1", "SLURM_PROCID": "0"}, 1),  # the same in an interactive allocation
        ({"LOCAL_RANK": "0", "SLURM_PROCID": "4"}, 4),  # srun, and a script that sets LOCAL_RANK
        ({"LOCAL_RANK": "1", "NODE_RANK": "2", "LOCAL_WORLD_SIZE": "4"}, 9),
        ({"LOCAL_RANK": "1", "GROUP_RANK": "1", "LOCAL_WORLD_SIZE": "2"}, 3),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, 0),
        ({"NODE_RANK": "1"}, 0),  # a machine's number, and no job
    ],
)
def test_a_local_rank_without_a_rank(
    environment: dict[str, str], expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the first process of the first node is rank 0."""
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert rank.get_rank() == expected


def test_ranks_of_several_nodes_are_distinct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also while nothing says how many processes a node has."""
    found = []
    for node in ("0", "1", "2"):
        for local in (None, "1", "7"):
            monkeypatch.setenv("NODE_RANK", node)
            monkeypatch.setenv("MASTER_ADDR", "node-0")
            if local is None:
                monkeypatch.delenv("LOCAL_RANK", raising=False)
            else:
                monkeypatch.setenv("LOCAL_RANK", local)
            found.append(rank.get_rank())
    assert len(set(found)) == 9
    assert found[0] == 0


def test_a_host_of_a_tpu_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has a number where there are several hosts. On a single one a number says nothing."""
    monkeypatch.setenv("TPU_WORKER_ID", "3")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "localhost")
    assert rank.get_rank() == 0
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "t-0,t-1,t-2,t-3")
    assert rank.get_rank() == 3


@pytest.mark.parametrize(("client", "expected"), [(object(), (2, 4)), (None, (1, 8))])
def test_jax_is_believed_once_it_is_initialised(
    client: object, expected: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before that the environment has to do. Its back end is not started for an answer."""
    module = types.ModuleType("jax._src.distributed")
    module.global_state = types.SimpleNamespace(  # type: ignore[attr-defined]
        client=client, process_id=2, num_processes=4
    )
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("JAX_PROCESS_ID", "1")
    monkeypatch.setenv("JAX_NUM_PROCESSES", "8")
    assert (rank.get_rank(), rank.get_world_size()) == expected


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
    """`RANK= python train.py` is no mistake that deserves a warning."""
    monkeypatch.setenv("RANK", "")
    assert rank.get_rank() == 0
    assert not caplog.records


def test_a_world_of_no_processes_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    """A size of 0 is not a size."""
    monkeypatch.setenv("WORLD_SIZE", "0")
    assert rank.get_world_size() == 1


def test_an_initialised_process_group_is_believed_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """It knows. The environment only suggests."""
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
    done = run_python("-c", script)
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
