"""Ask a shipper that can't deliver to leave its journal to ``trackside sync``.

A shipper whose trainer is dead keeps trying for an hour, with the credentials it was started with.
It can't be given new ones, but ``trackside sync`` has those of its own environment.

Invariants: only a shipper that says it fails is asked, so one that delivers is never disturbed. Only a
process of this machine that is this journal's shipper gets the signal: by its command line, or, if another
``sync`` has forked it, by the lock that it holds open.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from typing import TYPE_CHECKING

import psutil

from trackside.journal.files import read_json
from trackside.journal.lock import is_locked
from trackside.journal.meta import State
from trackside.shipper.spawn import is_forked, ships

if TYPE_CHECKING:
    from trackside.journal.directory import JournalDirectory

logger = logging.getLogger("trackside.shipper")

PATIENCE = 15.0
"""Seconds to wait for it to leave: a request that hangs takes its own time."""

POLL = 0.05


def failing_with(journal: JournalDirectory) -> str | None:
    """What the shipper of ``journal`` fails with, be it only files, or None when it does not fail."""
    state = read_json(journal.state, State)
    if state is None:
        return None
    errors = [worker.error for worker in state.workers.values() if worker.error]
    return state.error if state.phase == "retrying" else next(iter(errors), state.artifacts_error)


def take_over(journal: JournalDirectory) -> bool:
    """Whether the shipper of ``journal``, whose trainer is dead, fails and has left after it was asked to."""
    state = read_json(journal.state, State)
    if state is None or failing_with(journal) is None or not _ask(state.pid, journal):
        return False
    deadline = time.monotonic() + PATIENCE
    while is_locked(journal.lock):
        if time.monotonic() > deadline or failing_with(journal) is None:
            return False
        time.sleep(POLL)
    return journal.meta.exists()


def _ask(pid: int, journal: JournalDirectory) -> bool:
    try:
        process = psutil.Process(pid)
        if not _is_shipper(process, journal):
            return False
        process.send_signal(signal.SIGTERM)  # psutil checks that it is still the same process
    except psutil.Error:
        return False
    logger.info("asked the shipper (process %s) of %s to leave", pid, journal.path)
    return True


def _is_shipper(process: psutil.Process, journal: JournalDirectory) -> bool:
    """Whether ``process`` ships ``journal``. Raises ``psutil.Error``."""
    command = process.cmdline()
    if ships(command, journal):
        return True
    if not is_forked(command):
        return False
    lock = os.path.realpath(journal.lock)
    return any(file.path == lock for file in process.open_files())
