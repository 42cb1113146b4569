"""A Python program in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def run_python(
    *arguments: str | Path,
    cwd: Path | bytes | None = None,
    env: Mapping[str, str] | None = None,
    timeout: float = 120,
    check: bool = False,
    **environment: str,
) -> subprocess.CompletedProcess[str]:
    """Run the interpreter with ``arguments``, and capture what it prints.

    ``env`` stands in for this process's environment, and ``environment`` adds to it.
    """
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**(os.environ if env is None else env), **environment},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=check,
    )
