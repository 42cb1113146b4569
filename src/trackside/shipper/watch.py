"""Whether the training process is alive, and what the kernel says of its end.

A zombie is dead. A process that is stopped, or that holds the GIL for an hour, is alive. The process is
named by number *and* start time, so that a reused number is not mistaken for it. The end of a pipe would
not do: forked DataLoader workers hold it open.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import struct
import time
from typing import TYPE_CHECKING

from trackside.journal.owner import is_alive, is_replaced
from trackside.lifecycle.evidence import UNKNOWN, ExitStatus

if TYPE_CHECKING:
    from trackside.journal.owner import Owner

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

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
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
        """What the kernel knows of the end (Linux 6.15 and later).

        It tells only once the parent has waited for the dead process: ``patience`` is how many seconds to
        give it for that.
        """
        deadline = time.monotonic() + patience
        while (found := self._ask_kernel()) == UNKNOWN and time.monotonic() < deadline:
            time.sleep(_POLL)
        return found

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
