"""A training on rank 1, which needs no MLflow: it delivers to a file. Its oddities are given as code."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import logging, os, signal, sys, threading, time
logging.basicConfig(level=logging.WARNING, format="LOG %(message)s", stream=sys.stderr)
exec(os.environ["BEFORE"])
import trackside
output = {"type": "jsonl", "path": os.environ["OUTPUT"], "transform": {"ranks": [1]}}
try:
    run = trackside.start("x", destinations=[output])
except trackside.TracksideError as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr)
    sys.exit(3)
for step in range(50):
    trackside.log({"loss": 0.5}, step=step)
exec(os.environ["DURING"])
run.finish()
exec(os.environ["AFTER"])
"""


class Played(NamedTuple):
    """How it went."""

    code: int
    said: str
    steps: list[int]
    """Of the points that arrived."""


def play(
    folder: Path,
    *,
    before: str = "",
    during: str = "",
    after: str = "",
    command: tuple[str, ...] = (),
    program: str = PROGRAM,
    cwd: Path | bytes | None = None,
    **environment: str,
) -> Played:
    """Run the program in ``folder``: ``before`` the start, ``during`` the run, and ``after`` its end.

    ``command`` goes before the interpreter. ``program`` may be another one, which runs this one.
    """
    output = folder / "points.jsonl"
    done = subprocess.run(
        [*command, sys.executable, "-c", program],
        cwd=cwd or folder,
        env={
            **os.environ,
            "TRACKSIDE_DIR": str(folder / "journals"),
            "TRACKSIDE_EXIT_TIMEOUT": "60",
            "MLFLOW_TRACKING_URI": "http://localhost:5000",  # not asked: rank 0 delivers there
            "RANK": "1",
            "WORLD_SIZE": "2",
            "BEFORE": before,
            "DURING": during,
            "AFTER": after,
            "OUTPUT": str(output),
            **environment,
        },
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    lines = output.read_text("utf-8").splitlines() if output.exists() else []
    records = [json.loads(line) for line in lines]
    return Played(done.returncode, done.stderr, [r["step"] for r in records if "loss" in r])
