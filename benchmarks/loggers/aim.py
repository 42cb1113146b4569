"""``run.track`` of Aim, all metrics of a step in one call."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.loggers.base import Kept, Log, Logger

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _open() -> Iterator[Log]:
    from aim import Run

    run = Run(repo=".")
    yield lambda metrics, step: run.track(metrics, step=step)
    run.close()


def kept() -> Kept:
    """All metrics of the one run, by Aim's own repository."""
    from aim import Repo, Run

    repo = Repo(".")
    (name,) = repo.list_all_runs()
    run = Run(name, repo=repo, read_only=True)
    found = [(metric.name, step) for metric in run.metrics() for step in metric.values.sparse_list()[0]]
    return Kept(found, "active" if run.active else "ended")


LOGGER = Logger("aim", _open, kept, "returns when RocksDB, in the training process, has it", fast=False)
