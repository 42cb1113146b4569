"""``trackio.log`` into its own local store."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.loggers.base import Kept, Log, Logger
from benchmarks.samples import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _open() -> Iterator[Log]:
    import trackio

    trackio.init(project="bench", embed=False)
    yield lambda metrics, step: trackio.log(metrics, step=step)
    trackio.finish()


def kept() -> Kept:
    """All rows of the one run, by trackio's own storage."""
    from trackio.sqlite_storage import SQLiteStorage

    rows = [row for run in SQLiteStorage.get_runs("bench") for row in SQLiteStorage.get_logs("bench", run)]
    return Kept([(name, row["step"]) for row in rows for name in row if name.startswith(PREFIX)])


LOGGER = Logger(
    "trackio",
    _open,
    kept,
    "a list in memory, a thread of the training process writes it out",
    numbers=("floats",),
)
