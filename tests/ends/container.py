"""A namespace of processes, in which the first process is 1: what a container is to a training."""

from __future__ import annotations

import subprocess
import sys

COMMAND = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
"""Runs what follows as process 1. Its end is the end of every process in there."""

AS_PROCESS_1 = (*COMMAND, sys.executable)
AS_CHILD_OF_PROCESS_1 = (*COMMAND, "sh", "-c", f'"{sys.executable}" "$0"; exit $?')


def can_make_container() -> bool:
    """Whether this process may make one. Most containers don't allow it."""
    try:
        return (
            subprocess.run([*COMMAND, "true"], capture_output=True, timeout=30, check=False).returncode == 0
        )
    except OSError:
        return False
