"""Which process started the ranks of this job on this host, and a key that only they share.

A launcher's own ids need not be unique: torchrun's is ``none`` unless it is given one or makes one up, and
its address is ``127.0.0.1:29500`` on every host. Only the launcher's process is shared by this job alone. So
a job on one host is named after that process, and only a job on several hosts after its ids and its address.

The launcher is the nearest ancestor that does not have the rank's variables in its environment yet, since a
wrapper between it and the rank (``bash``, ``numactl``) has them. Two kinds of ranks are not started with
their variables: ``multiprocessing``'s children, whose parent is the launcher, and the process that a user of
Lightning starts, which becomes rank 0 and the launcher of the others.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from typing import TYPE_CHECKING

import psutil

from trackside.journal.owner import boot_id
from trackside.rank import BATCH_VARIABLES, RANK_VARIABLES
from trackside.system.multiprocess import parent_number
from trackside.system.processes import start_ticks

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MARKS = ("TORCHELASTIC_RUN_ID", "LOCAL_RANK", *RANK_VARIABLES)
"""Variables that a rank has and its launcher has not. The first one set marks the nearest launcher's."""

_SHARED = (
    "TORCHELASTIC_RUN_ID",
    "TORCHELASTIC_RESTART_COUNT",
    "SLURM_JOB_ID",
    "SLURM_STEP_ID",
    "MASTER_ADDR",
    "MASTER_PORT",
    "PMIX_NAMESPACE",  # Open MPI 5, srun --mpi=pmix
    "OMPI_MCA_ess_base_jobid",  # Open MPI 4
    "PALS_APID",
    "FLUX_JOB_ID",
    "JAX_COORDINATOR_ADDRESS",
)
"""Variables all ranks of a job on several hosts share."""

_OF_ALLOCATION = ("SLURM_JOB_ID", "SLURM_STEP_ID", "FLUX_JOB_ID")

_SIZES = (
    ("LOCAL_WORLD_SIZE", "WORLD_SIZE"),
    ("OMPI_COMM_WORLD_LOCAL_SIZE", "OMPI_COMM_WORLD_SIZE"),
    ("MV2_COMM_WORLD_LOCAL_SIZE", "MV2_COMM_WORLD_SIZE"),
    ("MVP_COMM_WORLD_LOCAL_SIZE", "MVP_COMM_WORLD_SIZE"),
    ("MPI_LOCALNRANKS", "PMI_SIZE"),
)
"""How many ranks this host has, and how many there are."""


def job_key(environment: Mapping[str, str] = os.environ) -> str:
    """A text that all ranks of a job share, as far as can be told, and no other job has.

    Outside a launcher's job it is the process's own: of a process whose children may turn out to be ranks.
    """
    if _may_have_several_hosts(environment):
        return _digest([environment.get(name, "") for name in _SHARED])
    # Lightning chooses the port after its first process, rank 0, has started.
    port = "" if _is_started_by_lightning(environment) else environment.get("MASTER_PORT", "")
    restart = environment.get("TORCHELASTIC_RESTART_COUNT", "")
    return _digest([_name_of(launcher_pid(environment)), restart, port])


def is_in_a_job(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a launcher says that there are ranks."""
    return any(environment.get(name) for name in (*_MARKS, *_SHARED))


def _may_have_several_hosts(environment: Mapping[str, str]) -> bool:
    if is_on_one_host(environment):
        return False
    # The shell of an allocation has the allocation's ids too, and so has every program started there.
    step = any(environment.get(name, "1") != "1" for name in ("SLURM_STEP_NUM_TASKS", "FLUX_JOB_SIZE"))
    return step or any(environment.get(name) for name in _SHARED if name not in _OF_ALLOCATION)


def is_on_one_host(environment: Mapping[str, str]) -> bool:
    """Whether every rank is on this host. Not so with Ray, whose ranks have no launcher but its daemon."""
    if "ray" in sys.modules:
        return False
    if any(environment.get(here) and environment.get(here) == environment.get(all_) for here, all_ in _SIZES):
        return True
    address = environment.get("MASTER_ADDR", "")
    return address in {"localhost", "::1"} or address.startswith("127.")


def launcher_pid(environment: Mapping[str, str] = os.environ) -> int:
    """The launcher's process number, or this process's own where it may be the launcher itself."""
    own = os.getpid()
    mark = next((name for name in _MARKS if environment.get(name)), None)
    if mark is not None and _was_started_with(own, mark):
        return next((pid for pid in _ancestors() if not _was_started_with(pid, mark)), own)
    return parent_number() or own


def _is_started_by_lightning(environment: Mapping[str, str]) -> bool:
    """Whether ``LOCAL_RANK`` is all there is, or nothing yet, as in the process that becomes rank 0."""
    nearer = (name for name in RANK_VARIABLES if name not in BATCH_VARIABLES)
    return not any(environment.get(name) for name in ("TORCHELASTIC_RUN_ID", *nearer))


def _was_started_with(pid: int, name: str) -> bool:
    """Whether the process had the variable when it was started. False for one that can't be asked."""
    with contextlib.suppress(psutil.Error, OSError):
        return name in psutil.Process(pid).environ()
    return False


def _ancestors() -> Iterator[int]:
    with contextlib.suppress(psutil.Error, OSError):
        yield from (process.pid for process in psutil.Process().parents())


def _name_of(pid: int) -> str:
    """The process's number with what tells it from another one of that number."""
    started: float | None = start_ticks(pid)
    if started is None:
        with contextlib.suppress(psutil.Error):
            started = psutil.Process(pid).create_time()
    return f"{boot_id()} {pid} {started}"


def _digest(values: list[str]) -> str:
    return hashlib.blake2b("\0".join(values).encode(), digest_size=8).hexdigest()
