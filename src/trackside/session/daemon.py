"""A program that starts its run and then becomes a daemon continues in another process, and so does the run.

A daemon forks, and its parent ends. To the run that looks like a child that logs beside a process that died.
So when such a child logs for the first time, we check whether the program continues in it.

Invariants:

* A child is the program's daemon only if three things hold. It is in another session than the program
  (``setsid``), as every daemon is and no worker. It is not a child of ``multiprocessing``. The process that
  started the run is dead.
* Nothing here is called before a forked child logs. That one call may wait, as ``start()`` does.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from trackside.journal.files import read_json
from trackside.journal.meta import State
from trackside.journal.owner import is_alive
from trackside.system.clock import steady
from trackside.system.multiprocess import parent_number

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory
    from trackside.journal.meta import RunInfo
    from trackside.journal.owner import Owner

PATIENCE = 2.0
"""Seconds the process that started the run has to end, from the first time that its daemon logs."""

_POLL = 0.02


def session() -> int | None:
    """The session of this process. None on systems without sessions."""
    return os.getsid(0) if hasattr(os, "getsid") else None


def is_daemon_of(owner: Owner, owners_session: int | None) -> bool:
    """Whether this forked child is the daemon that the program of ``owner`` became."""
    if parent_number() is not None or owners_session is None or session() == owners_session:
        return False
    deadline = steady() + PATIENCE
    while is_alive(owner):
        if steady() >= deadline:
            return False
        time.sleep(_POLL)
    return True


def wait_for_run(journal: JournalDirectory, timeout: float) -> RunInfo | None:
    """The run of ``journal``, which its shipper may just be opening. None after ``timeout`` seconds.

    That shipper outlives the process that started it. It removes the journal once it has delivered the few
    points of that process, so the state is read often.
    """
    deadline = steady() + timeout
    while True:
        state = read_json(journal.state, State)
        if state is not None and (state.run is not None or state.phase == "refused"):
            return state.run
        if not journal.path.exists() or steady() >= deadline:
            return None
        time.sleep(_POLL)
