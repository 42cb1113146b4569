"""What the system's table of processes says of one."""

from __future__ import annotations

import os

# In proc_pid_stat(5): counted from the field behind the process's name
_STATE = 0
_PARENT = 1
_START = 19


def start_ticks(pid: int) -> int | None:
    """When the process was started, in kernel ticks since the boot, or None if that can't be read."""
    fields = _stat(pid)
    return int(fields[_START]) if fields else None


def parent_of_zombie(pid: int) -> int | None:
    """The process that has to wait for ``pid``, which is dead. None if it is not, or can't be read."""
    fields = _stat(pid)
    return int(fields[_PARENT]) if fields and fields[_STATE] == b"Z" else None


def is_there(pid: int) -> bool:
    """Whether some process has the number, a zombie included."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # another user's
        return True
    except (OSError, OverflowError):
        return False
    return True


def is_at_work(pid: int, started: int | None) -> bool:
    """Whether the process ``pid`` lives, started at ``started`` (ticks, if known), and is no zombie."""
    if not is_there(pid) or parent_of_zombie(pid) is not None:
        return False
    return started is None or start_ticks(pid) == started


def _stat(pid: int) -> list[bytes]:
    """The fields of the process's ``stat`` behind its name (Linux). Empty if they can't be read."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            after_name = file.read().rpartition(b")")[2]  # the name may hold anything, brackets too
    except (OSError, ValueError):
        return []
    fields = after_name.split()
    return fields if len(fields) > _START else []
