"""A memory cgroup with a limit, for processes that the kernel's OOM killer is to end."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

ROOTS = {
    Path("/sys/fs/cgroup/memory"): "memory.limit_in_bytes",
    Path("/sys/fs/cgroup"): "memory.max",
}
"""Of version 1 and 2, with the file that takes the limit."""

PREFIX = "trackside-test-"


def enter_limited_group(limit: int) -> None:
    """Put this process, and those it will start, into a new group of ``limit`` bytes. Raises ``OSError``."""
    _remove_old_ones()
    last: OSError = FileNotFoundError("no memory cgroups")
    for root, limit_file in ROOTS.items():
        group = root / f"{PREFIX}{os.getpid()}"
        try:
            group.mkdir()
            (group / limit_file).write_text(str(limit))
            (group / "cgroup.procs").write_text(str(os.getpid()))
        except OSError as error:
            last = error
            with contextlib.suppress(OSError):
                group.rmdir()
        else:
            return
    raise last


def can_limit_memory() -> bool:
    """Whether this process may make such a group. Containers mostly may not."""
    done = subprocess.run([sys.executable, __file__], capture_output=True, check=False)
    _remove_old_ones()
    return done.returncode == 0


def _remove_old_ones() -> None:
    """Groups whose processes are gone."""
    for root in ROOTS:
        for group in root.glob(f"{PREFIX}*"):
            with contextlib.suppress(OSError):
                group.rmdir()


if __name__ == "__main__":
    enter_limited_group(1 << 30)
