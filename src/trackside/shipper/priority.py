"""The shipper's share of the processor: full until the run is open, and then what the training leaves.

Opening the run is seconds of imports on a quiet machine. At a low priority from the first instruction, beside
a training that takes every core, the same work took ten.
"""

from __future__ import annotations

import contextlib
import logging
import os

logger = logging.getLogger("trackside.shipper")

NICE = 10
LOWEST = 19


def give_way() -> None:
    """Let the training have the processor first, and never preempt it on waking up.

    On Linux a priority belongs to a thread, and the threads that it starts inherit it. So each thread that
    runs by now is set, this one first.
    """
    try:
        wanted = min(os.getpriority(os.PRIO_PROCESS, 0) + NICE, LOWEST)
        _set(0, wanted)
        for thread in _threads():
            with contextlib.suppress(ProcessLookupError):  # it has ended since
                _set(thread, wanted)
    except OSError as error:
        logger.debug("could not lower the priority: %s", error)


def _threads() -> list[int]:
    with contextlib.suppress(OSError):  # no /proc: then a priority is the process's
        return [int(name) for name in os.listdir("/proc/self/task")]
    return []


def _set(thread: int, wanted: int) -> None:
    os.setpriority(os.PRIO_PROCESS, thread, wanted)
    if hasattr(os, "SCHED_BATCH"):
        os.sched_setscheduler(thread, os.SCHED_BATCH, os.sched_param(0))
