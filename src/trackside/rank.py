"""Which of the job's processes this one is.

Asked once at start, because only rank 0 logs. The answer must be right before
``init_process_group`` has run, and without importing torch: a process that does not use it should
not pay for it.
"""

from __future__ import annotations

import functools
import logging
import os
import sys
from typing import Any

logger = logging.getLogger(__name__)

# Nearest launcher first: torchrun started by srun sets RANK, and SLURM_PROCID then counts nodes.
# torchrun: https://docs.pytorch.org/docs/stable/elastic/run.html#environment-variables
# srun: https://slurm.schedmd.com/srun.html (an `salloc` shell or a batch script has at most a 0)
# Open MPI: https://docs.open-mpi.org/en/main/tuning-apps/environment-var.html
# PMI: what MPICH's Hydra and Intel MPI set
RANK_VARIABLES = ("RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK")

# Not SLURM_NTASKS: a batch script has it too, where one process runs whatever it says.
WORLD_SIZE_VARIABLES = ("WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


def get_rank() -> int:
    """Return this process's rank in the job, 0 when nothing says otherwise.

    ``torch.distributed`` is believed first, if torch is imported and its process group is up; then
    the first of ``RANK_VARIABLES`` that holds an integer of 0 or more. One that holds something
    else is ignored with one warning. Raises nothing.
    """
    group = _process_group()
    if group is not None:
        return int(group.get_rank())
    rank = _first_integer(RANK_VARIABLES, minimum=0)
    return 0 if rank is None else rank


def get_world_size() -> int:
    """Return how many processes the job has, 1 when nothing says otherwise.

    Asks the same sources as ``get_rank``, in the same order. Raises nothing.
    """
    group = _process_group()
    if group is not None:
        return int(group.get_world_size())
    size = _first_integer(WORLD_SIZE_VARIABLES, minimum=1)
    return 1 if size is None else size


def _process_group() -> Any:
    """Return ``torch.distributed`` if it is loaded and initialised, else None."""
    # A torch that is half imported has no `distributed` yet, and one built without it answers
    # `is_available()` with False and has no `is_initialized`.
    distributed = getattr(sys.modules.get("torch"), "distributed", None)
    is_available = getattr(distributed, "is_available", None)
    if distributed is None or is_available is None or not is_available():
        return None
    return distributed if distributed.is_initialized() else None


def _first_integer(names: tuple[str, ...], minimum: int) -> int | None:
    """Return the first environment variable of ``names`` that holds an integer in range."""
    for name in names:
        text = os.environ.get(name, "").strip()
        if not text:
            continue
        # int() takes "1_0" and other scripts' digits too; no launcher writes those.
        if text.isascii() and text.isdigit() and int(text) >= minimum:
            return int(text)
        _warn_once(name, text)
    return None


@functools.cache
def _warn_once(name: str, text: str) -> None:
    logger.warning("ignoring %s=%r: not a rank or a number of processes", name, text)
