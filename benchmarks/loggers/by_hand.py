"""What you write without a library: a line of JSON for each step, in a file that stays open."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.loggers.base import Kept, Log, Logger
from benchmarks.samples import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PATH = Path("by_hand.jsonl")


@contextmanager
def open_lines(path: Path = PATH, *, flush: bool = False) -> Iterator[Log]:
    """Write the lines to ``path``. Python's buffer holds the last 8 KiB of them where nothing is flushed."""
    with path.open("w") as file:

        def log(metrics: dict[str, Any], step: int) -> None:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

        def log_and_flush(metrics: dict[str, Any], step: int) -> None:
            file.write(json.dumps({"step": step, **metrics}) + "\n")
            file.flush()

        yield log_and_flush if flush else log


def kept() -> Kept:
    """All lines that are whole."""
    lines = [line for line in PATH.read_text().splitlines(keepends=True) if line.endswith("\n")]
    rows = [json.loads(line) for line in lines]
    return Kept([(name, row["step"]) for row in rows for name in row if name.startswith(PREFIX)])


LINE = Logger("json", open_lines, kept, "in Python's own buffer until 8 KiB are full", numbers=("floats",))
FLUSHED = Logger(
    "json", lambda: open_lines(flush=True), kept, "in the operating system's buffer", numbers=("floats",)
)
