"""Can this process look up others by their numbers?

On Linux that takes ``/proc``, which some containers and jails do not have. Others show the processes of
another namespace in it, where the same number is somebody else. Then a process's start time can't be read,
and all that is left is to ask the kernel whether there is such a process.
"""

from __future__ import annotations

import os
import sys


def can_look_up() -> bool:
    """Whether the system's table of processes is there, and knows this process by its own number."""
    if not sys.platform.startswith("linux"):
        return True
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def is_there(pid: int) -> bool:
    """Whether some process has the number, a zombie included."""
    try:
        os.kill(pid, 0)
    except PermissionError:  # somebody else's
        return True
    except (OSError, OverflowError):
        return False
    return True
