"""Waiting for the shippers of the command's processes, and telling what is left.

Invariants:

* Only the journal of a dead trainer is waited for: the shipper of a live one works as long as it trains.
* A journal is delivered once its ``meta.json`` is gone, and done once its folder is, or only what its trainer
  has not read is left of it. One whose shipper has ended, and left it behind, is not waited for.
* A shipper that waits for its turn is waited for as long as the process lives that is to start it.
"""

from __future__ import annotations

import fcntl
import os
import time

from trackside.system.parent_folder import RegisteredJournal, has_fork_server, registered_journals
from trackside.system.processes import is_at_work

BOOT_PATIENCE = 20.0
"""Seconds a shipper has from the command's end until it must have locked its journal."""

ENDED_AFTER = 1.0
"""Seconds without a lock after which a shipper that had one counts as ended."""


class Deliveries:
    """The journals below one ``trackside run``."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._began = time.monotonic()
        self._free_since: dict[str, float] = {}

    def left(self) -> list[RegisteredJournal]:
        """The journals of dead trainers that are not delivered."""
        return [one for one in self._of_the_dead() if os.path.exists(os.path.join(one.journal, "meta.json"))]

    def pending(self) -> list[RegisteredJournal]:
        """Those that have a shipper, or may get one. It may be removing the last files of a journal."""
        return [one for one in self._of_the_dead() if self.is_shipping(one)]

    def _of_the_dead(self) -> list[RegisteredJournal]:
        found = registered_journals(self._folder)
        return [one for one in found if os.path.isdir(one.journal) and not is_at_work(one.pid, one.started)]

    def is_shipping(self, one: RegisteredJournal) -> bool:
        """Whether a shipper delivers the journal, or is about to begin."""
        now = time.monotonic()
        held = _is_locked(one.journal)
        if held:
            self._free_since.pop(one.journal, None)
            return True
        if held is None:
            if os.path.exists(os.path.join(one.journal, "delivered.json")):
                return False
            return has_fork_server(self._folder, one.pid) or now - self._began < BOOT_PATIENCE
        return now - self._free_since.setdefault(one.journal, now) < ENDED_AFTER


def _is_locked(journal: str) -> bool | None:
    """Whether a shipper has the journal. None if none has had it yet."""
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        descriptor = os.open(os.path.join(journal, "shipper.lock"), flags)
    except FileNotFoundError:
        return None
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False
