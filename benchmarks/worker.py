"""One measurement in a process of its own, in an empty directory; it says its figures in a line of JSON.

Nothing it does goes to the network, and bytecode is kept.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT = Path(__file__).parents[1]

QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "NEPTUNE_API_TOKEN": "none",
    "NEPTUNE_LOGGER_LEVEL": "error",
    "NEPTUNE_MODE": "offline",
    "NEPTUNE_PROJECT": "bench/bench",
    "TRACKIO_DIR": ".",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_MODE": "offline",
    "WANDB_SILENT": "true",
    # Without it, whoever sets this variable would measure how long it takes to compile a library.
    "PYTHONDONTWRITEBYTECODE": "",
}
"""The environment that every library is measured in."""

Figures = dict[str, Any]
"""What a worker measured, by name; only ``error`` where it failed."""


def measure(
    module: str, *arguments: object, environment: Mapping[str, str] | None = None, timeout: float = 600
) -> Figures:
    """Run ``python -m benchmarks.MODULE ARGUMENTS``; what it says last, or ``error``, its last complaint."""
    with tempfile.TemporaryDirectory(prefix="trackside-bench-", ignore_cleanup_errors=True) as directory:
        try:
            done = subprocess.run(
                [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
                cwd=directory,
                env={**os.environ, **_paths(), **(environment or {})},
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return {"error": f"took longer than {timeout:.0f} s"}
    if done.returncode != 0:
        return {"error": (done.stderr.strip().splitlines() or ["no output"])[-1]}
    found: Figures = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def _paths() -> dict[str, str]:
    return {"PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))}


def own_stdout() -> TextIO:
    """For the worker: keep its stdout for the figures; libraries print there too."""
    kept = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return kept


def say(figures: Figures, out: TextIO) -> None:
    """For the worker: the figures, as its last line."""
    print(json.dumps(figures), file=out, flush=True)
