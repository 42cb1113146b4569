"""``log_metrics`` of neptune-scale, offline."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.loggers.base import Kept, Log, Logger

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = Path("neptune")


@contextmanager
def _open() -> Iterator[Log]:
    from neptune_scale import Run

    with Run(run_id="bench", mode="offline", log_directory=DIRECTORY.resolve()) as run:
        yield lambda metrics, step: run.log_metrics(metrics, step=step)


def kept() -> Kept:
    """All operations in the run's sqlite file, by the library's own repository of them."""
    from neptune_scale.sync.operations_repository import OperationsRepository

    (path,) = DIRECTORY.resolve().glob("*/run_operations.sqlite3")
    operations = OperationsRepository(db_path=path).get_operations(up_to_bytes=2**40)
    updates = [item.operation for item in operations if hasattr(item.operation, "append")]
    return Kept([(name, update.step.whole) for update in updates for name in update.append])


LOGGER = Logger("neptune_scale", _open, kept, "offline; returns when its own sqlite file has it")
