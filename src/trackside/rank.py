"""The rank of this process in its job.

It is read once at the start, because only rank 0 logs. The answer must be right before
``init_process_group`` has run. It must not import torch, because a process that does not use torch should not
pay for it.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Iterable

logger = logging.getLogger("trackside")

_ignored = Once()

# The nearest launcher comes first, because one launcher often starts another: `srun torchrun` sets RANK,
# and SLURM_PROCID then counts nodes. SLURM_PROCID and FLUX_TASK_RANK are last, because an allocation's shell
# and a batch script have them too, and everything that starts there inherits a 0 (or, with `mpirun` on srun,
# the node's number).
# torchrun, DeepSpeed, Accelerate, Ray Train, Kubeflow:
#   https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
# horovodrun: https://horovod.readthedocs.io (horovod/runner/gloo_run.py sets HOROVOD_RANK for each process)
# Open MPI: https://docs.open-mpi.org/en/main/tuning-apps/environment-var.html
# MVAPICH: https://mvapich.cse.ohio-state.edu/userguide/ (MV2_COMM_WORLD_RANK, from version 3 MVP_)
# jsrun: https://www.ibm.com/docs/en/spectrum-lsf (JSM_NAMESPACE_RANK)
# PMIx: https://pmix.github.io (PMIX_RANK, of prterun, and of srun with --mpi=pmix)
# PMI: what MPICH's Hydra and Intel MPI set
# PALS: Cray's mpiexec (PALS_RANKID)
# JAX: https://docs.jax.dev/en/latest/_autosummary/jax.distributed.initialize.html
# Flux: https://flux-framework.readthedocs.io/projects/flux-core/en/latest/man7/flux-environment.html
# srun: https://slurm.schedmd.com/srun.html
RANK_VARIABLES = (
    "RANK",
    "HOROVOD_RANK",
    "OMPI_COMM_WORLD_RANK",
    "MV2_COMM_WORLD_RANK",
    "MVP_COMM_WORLD_RANK",
    "JSM_NAMESPACE_RANK",
    "PMIX_RANK",
    "PMI_RANK",
    "PALS_RANKID",
    "JAX_PROCESS_ID",
    "FLUX_TASK_RANK",
    "SLURM_PROCID",
)

BATCH_VARIABLES = ("FLUX_TASK_RANK", "SLURM_PROCID")
"""Of a batch system: a 0 in them may be that of the shell in which the job was started."""

# Not SLURM_NTASKS: a batch script has it too, where one process runs whatever it says.
WORLD_SIZE_VARIABLES = (
    "WORLD_SIZE",
    "HOROVOD_SIZE",
    "OMPI_COMM_WORLD_SIZE",
    "MV2_COMM_WORLD_SIZE",
    "MVP_COMM_WORLD_SIZE",
    "JSM_NAMESPACE_SIZE",
    "PMI_SIZE",
    "JAX_NUM_PROCESSES",
    "FLUX_JOB_SIZE",
    "SLURM_STEP_NUM_TASKS",
)

# Lightning starts the other processes of a host itself, and gives them LOCAL_RANK but no RANK. NODE_RANK,
# which the user sets with MASTER_ADDR, or else GROUP_RANK is the number of the host (LightningEnvironment).
# The process the user started has no LOCAL_RANK until its trainer runs.
# https://lightning.ai/docs/pytorch/stable/clouds/cluster_intermediate_1.html
NODE_VARIABLES = ("NODE_RANK", "GROUP_RANK")
LOCAL_VARIABLES = ("LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
TPU_VARIABLES = ("TPU_WORKER_ID", "TPU_WORKER_HOSTNAMES", "CLOUD_TPU_TASK_ID")

LAUNCHER_VARIABLES = (
    *RANK_VARIABLES,
    *WORLD_SIZE_VARIABLES,
    *NODE_VARIABLES,
    *LOCAL_VARIABLES,
    *TPU_VARIABLES,
)
"""Every variable that :func:`get_rank` and :func:`get_world_size` may look at."""


def get_rank() -> int:
    """Return this process's rank in the job, or 0 if nothing says otherwise.

    The first of these that has an answer:

    1. ``torch.distributed``, if torch is imported and its process group is up. Then ``jax.distributed``.
    2. The first of ``RANK_VARIABLES`` that holds an integer of 0 or more. A 0 from a batch system (Slurm,
       Flux) does not end the search, because its shells have it too.
    3. ``LOCAL_RANK`` with the node's rank, for launchers that set nothing else. Without ``LOCAL_WORLD_SIZE``
       the result is a number that no other process has, and 0 only on the first process of the first node.
    4. The number of a TPU host.

    A variable that holds something else is ignored with one warning. Raises nothing.
    """
    known = _rank_of_group()
    if known is not None:
        return known
    rank = _first_integer([n for n in RANK_VARIABLES if n not in BATCH_VARIABLES], minimum=0)
    if rank is not None:
        return rank
    rank = _first_integer(BATCH_VARIABLES, minimum=0)
    return rank or _rank_by_node() or _rank_of_tpu_host() or 0


def get_world_size() -> int:
    """Return how many processes the job has, or 1 if nothing says otherwise.

    Asks the same sources as ``get_rank``, in the same order. Raises nothing.
    """
    group = _process_group()
    if group is not None:
        return int(group.get_world_size())
    size = _jax_state("num_processes")
    if size is None:
        size = _first_integer(WORLD_SIZE_VARIABLES, minimum=1)
    return 1 if size is None else size


def _rank_of_group() -> int | None:
    group = _process_group()
    return int(group.get_rank()) if group is not None else _jax_state("process_id")


def _rank_by_node() -> int:
    """Return the rank by ``LOCAL_RANK`` and the node's rank, or 0 without them."""
    local = _first_integer(["LOCAL_RANK"], minimum=0)
    node = _first_integer(NODE_VARIABLES, minimum=0) or 0
    if local is None and not os.environ.get("MASTER_ADDR"):
        return 0  # a node's number alone does not make a job
    # The number of processes on a node. Too large is harmless, too small is not.
    per_node = _first_integer(["LOCAL_WORLD_SIZE", "WORLD_SIZE"], minimum=1) or 1024
    return node * per_node + (local or 0)


def _rank_of_tpu_host() -> int:
    """Return the number of this host in a TPU slice of several hosts, or 0 elsewhere.

    JAX reads the same variables (``jax/_src/clusters/cloud_tpu_cluster.py``).
    """
    hosts = os.environ.get("TPU_WORKER_HOSTNAMES", "")
    names = ["TPU_WORKER_ID", "CLOUD_TPU_TASK_ID"] if "," in hosts else ["CLOUD_TPU_TASK_ID"]
    return _first_integer(names, minimum=0) or 0


def _jax_state(name: str) -> int | None:
    """Return an argument of ``jax.distributed.initialize()``, or None before that call and without JAX.

    ``jax.process_index()`` is public, but it starts JAX's back end. That takes the GPU's memory and waits for
    the other processes.
    """
    state = getattr(sys.modules.get("jax._src.distributed"), "global_state", None)
    value = getattr(state, name, None)
    return value if getattr(state, "client", None) is not None and isinstance(value, int) else None


def _process_group() -> Any:
    """Return ``torch.distributed`` if it is loaded and initialised, or None."""
    # A half-imported torch has no `distributed` yet. A torch built without it answers `is_available()` with
    # False and has no `is_initialized`.
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    is_available = getattr(distributed, "is_available", None)
    if distributed is None or is_available is None or not is_available():
        return None
    return distributed if distributed.is_initialized() else None


def _first_integer(names: Iterable[str], minimum: int) -> int | None:
    """Return the first environment variable of ``names`` that holds an integer in range."""
    for name in names:
        text = os.environ.get(name, "").strip()
        if not text:
            continue
        # int() also accepts "1_0" and digits of other scripts, which no launcher writes.
        if text.isascii() and text.isdigit() and int(text) >= minimum:
            return int(text)
        if _ignored.is_first((name, text)):
            logger.warning("ignoring %s=%r: not a rank or a number of processes", name, text)
    return None
