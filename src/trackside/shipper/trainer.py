"""What the shipper sees of the training process from outside: whether it lives, and how it ended.

Invariants:

* A zombie is dead. A process that is stopped, or that holds the GIL for an hour, is alive.
* The process is named by number *and* start time, so that a reused number is not mistaken for it. The end of
  a pipe would not do: forked DataLoader workers hold it open.
* Once the process is seen dead, or replaced by another program, it stays so.
* The time of death is that of the last sign of life, if the shipper did not look for a while.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import select
import signal
import struct
import time
from typing import TYPE_CHECKING

from trackside.events import now_ms
from trackside.journal.directory import last_sign_ms
from trackside.journal.files import read_json
from trackside.journal.meta import Meta
from trackside.journal.owner import is_alive, is_replaced, succeeds
from trackside.lifecycle.evidence import UNKNOWN, ExitStatus
from trackside.lifecycle.exit_code import read_exit_code
from trackside.shipper.told_by_parent import told_by_parent, will_be_told

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.owner import Owner

logger = logging.getLogger("trackside.shipper")

REAP_TIMEOUT = 0.3
"""Seconds a dead trainer's parent has to wait for it. Then its end is judged without the kernel's word."""

PARENT_TIMEOUT = 10.0
"""Seconds a ``trackside run`` has for the same. It has nothing else to do, but the machine may be busy."""

STOOD_STILL_MS = 5000
"""Milliseconds between two looks at the trainer after which the first one says little about the second."""

SUCCESSOR_EVERY = 0.5
"""Seconds between two looks for the journal of the program that has replaced the training."""

_POLL = 0.005

# include/uapi/linux/pidfd.h: PIDFD_GET_INFO is _IOWR(0xFF, 11, struct pidfd_info), and the exit status
# (Linux 6.15) is the last of the 64 bytes of the structure's first version.
_INFO_SIZE = 64
_GET_INFO = (3 << 30) | (_INFO_SIZE << 16) | (0xFF << 8) | 11
_INFO_EXIT = 1 << 3


class DeathWatch:
    """Watches the process ``owner``, which must be of this machine.

    The start time identifies the process once. From then on the descriptor does, where the system has one.
    """

    def __init__(self, owner: Owner, note: Path | None = None) -> None:
        """``note``: the file in which a ``trackside run`` says how the process ended."""
        self._owner = owner
        self._note = note
        self._pidfd = _open_pidfd(owner.pid)
        self._dead = not is_alive(owner)  # asked after opening: the descriptor can't be a successor's
        if self._dead and self._pidfd is not None:  # of a process that got the number since
            os.close(self._pidfd)
            self._pidfd = None

    def fileno(self) -> int | None:
        """A descriptor that becomes readable at the death, where the system has such."""
        return self._pidfd

    def is_dead(self) -> bool:
        """Whether the process has ended. Once True, always True."""
        if not self._dead:
            gone = not is_alive(self._owner) if self._pidfd is None else _is_readable(self._pidfd)
            self._dead = gone
        return self._dead

    def is_replaced(self) -> bool:
        """Whether another program runs in the process by now (``exec``): it writes nothing more."""
        return not self._dead and is_replaced(self._owner)

    def exit_status(self, *, patience: float = 0.0) -> ExitStatus:
        """What the kernel knows of the end (Linux 6.15 and later), or a parent process of ours.

        Both tell only once the parent has waited for the dead process: ``patience`` is how many seconds to
        give it for that. A ``trackside run`` gets more, because it is sure to do so.
        """
        began = time.monotonic()
        while True:
            is_to_come = will_be_told(self._owner)  # asked first: then it is there once it is not to come
            found = self._ask_kernel()
            found = told_by_parent(self._note, self._owner) if found == UNKNOWN else found
            waited = time.monotonic() - began
            if found != UNKNOWN or waited >= (PARENT_TIMEOUT if is_to_come and patience else patience):
                return found
            time.sleep(_POLL)

    def _ask_kernel(self) -> ExitStatus:
        if self._pidfd is None:
            return UNKNOWN
        info = bytearray(_INFO_SIZE)
        struct.pack_into("<Q", info, 0, _INFO_EXIT)
        with contextlib.suppress(OSError):
            fcntl.ioctl(self._pidfd, _GET_INFO, info)
            (mask,) = struct.unpack_from("<Q", info, 0)
            if mask & _INFO_EXIT:
                return _decode_wait_status(struct.unpack_from("<i", info, _INFO_SIZE - 4)[0])
        return UNKNOWN


def oom_kills() -> int | None:
    """The OOM kills of this process's memory cgroup so far, or None where they can't be read."""
    with contextlib.suppress(OSError, ValueError, StopIteration), open(_memory_events()) as file:
        return sum(int(line.split()[1]) for line in file if line.startswith("oom_kill "))
    return None


def _memory_events() -> str:
    """The file that counts them: cgroups of version 1 where the memory controller is there, else of 2."""
    with open("/proc/self/cgroup", encoding="utf-8") as file:
        groups = [line.rstrip("\n").split(":", 2) for line in file]
    for _, controllers, path in groups:
        if "memory" in controllers.split(","):
            return f"/sys/fs/cgroup/memory{path}/memory.oom_control"
    return f"/sys/fs/cgroup{next(path for number, _, path in groups if number == '0')}/memory.events"


def _open_pidfd(pid: int) -> int | None:
    if not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(pid)
    except OSError:
        return None


def _is_readable(descriptor: int) -> bool:
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    return bool(poller.poll(0))


def _decode_wait_status(status: int) -> ExitStatus:
    if os.WIFSIGNALED(status):
        return ExitStatus(killed_by=os.WTERMSIG(status))
    return ExitStatus(exit_code=os.WEXITSTATUS(status))


class Trainer:
    """The training process whose journal is shipped."""

    def __init__(self, journal: JournalDirectory, meta: Meta) -> None:
        self._journal = journal
        self._meta = meta
        self._watch = DeathWatch(meta.owner, journal.wait_status)
        self._alive_ms = 0 if self._watch.is_dead() else now_ms()
        self._oom_before = oom_kills()
        self._next_successor = 0.0
        self._dead_since = 0.0
        self._exit_code: int | None = None
        self.died_ms = 0
        """When it died, or 0 while it lives. Process 1 counts as dead once it has noted its exit code."""
        self.exit_status: ExitStatus = UNKNOWN
        """What the kernel says of its end."""
        self.oom = False
        """Whether the kernel's OOM killer ended it."""
        self.replaced = self.succeeded = False
        """Whether another program runs in the process by now (``exec``), and has a run of its own."""

    def fileno(self) -> int | None:
        """A descriptor that becomes readable at the death, where the system has such."""
        return self._watch.fileno()

    def is_gone(self) -> bool:
        """Whether the process is dead, asked anew."""
        return bool(self.died_ms) or self._watch.is_dead()

    @property
    def writes_no_more(self) -> bool:
        """Whether the journal is complete: its writer is dead or replaced."""
        return bool(self.died_ms) or self.replaced

    @property
    def exit_code(self) -> int | None:
        """What Python handed to the C library's ``exit``. It counts only at the end: children note theirs."""
        if self._exit_code is not None or not self.died_ms:
            return self._exit_code
        return read_exit_code(self._journal.exit_code)

    @property
    def dead_for(self) -> float:
        """Seconds since the shipper saw it dead, or 0 while it lives."""
        return time.monotonic() - self._dead_since if self.died_ms else 0.0

    def look(self, *, said_exited: bool) -> None:
        """See what has become of it. ``said_exited``: its journal says that the interpreter exits."""
        if self.died_ms:
            return
        if not self._watch.is_dead():
            self._alive_ms = now_ms()
            self._look_for_exec()
            return
        certain = said_exited and read_exit_code(self._journal.exit_code) is not None
        self.exit_status = self._watch.exit_status(patience=0.0 if certain else REAP_TIMEOUT)
        self.oom = self._was_killed_for_memory()
        logger.info("the training process is dead: %s", self.exit_status)
        self._note_death(self._time_of_death())

    def read_code_of_waiting_exit(self) -> int | None:
        """The exit code of a process that waits for us at its exit, or None while it has not noted one.

        Process 1 of a container takes the shipper with it, so its end is taken as told.
        """
        if self._exit_code is None:
            self._exit_code = read_exit_code(self._journal.exit_code)
            if self._exit_code is not None and self._meta.owner.pid == 1:
                logger.info("process 1 is about to end with exit code %s", self._exit_code)
                self.exit_status = ExitStatus(exit_code=self._exit_code)
                self._note_death(now_ms())
        return self._exit_code

    def _note_death(self, died_ms: int) -> None:
        self._dead_since = time.monotonic()
        self.died_ms = died_ms

    def _time_of_death(self) -> int:
        """When the trainer died: now, if it was seen alive right before.

        Otherwise the shipper did not look for a while: it began later, or stood still (SIGSTOP, a suspended
        machine). Then it is the trainer's last sign. An attempt that has ended meanwhile came after it.
        """
        now = now_ms()
        if now - self._alive_ms < STOOD_STILL_MS:
            return now
        return max(self._alive_ms, last_sign_ms(self._journal))

    def _was_killed_for_memory(self) -> bool:
        now = oom_kills()
        return (
            self._oom_before is not None
            and now is not None
            and now > self._oom_before
            and self.exit_status in {UNKNOWN, ExitStatus(killed_by=int(signal.SIGKILL))}
        )

    def _look_for_exec(self) -> None:
        """A program that replaced the training writes nothing more to this journal, but may end the run."""
        if not self.replaced and self._watch.is_replaced():
            self.replaced = True
            logger.info("another program has replaced the training (exec)")
        elif self.replaced and not self.succeeded and time.monotonic() >= self._next_successor:
            self._next_successor = time.monotonic() + SUCCESSOR_EVERY
            self.succeeded = has_successor(self._journal, self._meta)


def has_successor(journal: JournalDirectory, meta: Meta) -> bool:
    """Whether the program that replaced the training in its process has a journal beside this one."""
    found = (read_json(path, Meta) for path in journal.path.parent.glob("*/meta.json"))
    return any(other is not None and succeeds(other.owner, meta.owner) for other in found)
