"""``run.log`` of W&B, offline."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.loggers.base import Kept, Log, Logger
from benchmarks.samples import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _open() -> Iterator[Log]:
    import wandb

    with wandb.init(project="bench", mode="offline") as run:
        yield lambda metrics, step: run.log(metrics, step=step)


def kept() -> Kept:
    """All rows of the one transaction log. wandb has no reader of its own in Python; trackside has one."""
    from trackside.destinations.wandb.log import TransactionLog

    (path,) = Path().glob("wandb/*run-*/*.wandb")
    log = TransactionLog(path)
    rows = list(log.new_rows())
    points = [(name, row.number) for row in rows for name in row.values if name.startswith(PREFIX)]
    return Kept(points, "ended" if log.ended else "no end in the file")


LOGGER = Logger("wandb", _open, kept, "offline; wandb-core, a process of its own, writes the file")
