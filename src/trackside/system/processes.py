"""What the system's table of processes says of one."""

from __future__ import annotations

import os

_START = 19
_PARENT = 1
_STATE = 0


def start_ticks(pid: int) -> int | None:
    """When the process was started, in kernel ticks since the boot, or None if that can't be read."""
    found = _field(pid, _START)  # proc_pid_stat(5): field 22, the name being the second
    return None if found is None else int(found)


def parent_of_zombie(pid: int) -> int | None:
    """The process that has to wait for ``pid``, which is dead. None if it is not, or can't be read."""
    parent = _field(pid, _PARENT)
    return int(parent) if parent is not None and _field(pid, _STATE) == "Z" else None


def is_at_work(pid: int, started: int | None) -> bool:
    """Whether the process ``pid`` lives, started at ``started`` (ticks, if known), and is no zombie."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    if parent_of_zombie(pid) is not None:
        return False
    return started is None or start_ticks(pid) == started


def _field(pid: int, number: int) -> str | None:
    """A field of the process's ``stat``, counted from the one behind its name (Linux)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            after_name = file.read().rpartition(b")")[2]  # the name may hold anything, brackets too
        return after_name.split()[number].decode("ascii")
    except (OSError, ValueError, IndexError):
        return None
