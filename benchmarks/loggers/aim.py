"""``run.track`` of Aim, all metrics of a step in one call."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.loggers.base import Kept, Log, Logger
from benchmarks.samples import PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _open() -> Iterator[Log]:
    from aim import Run

    run = Run(repo=".")
    yield lambda metrics, step: run.track(metrics, step=step)
    run.close()


def kept() -> Kept:
    """All metrics of the one run, by Aim's own reader, which sees what its server has put into the index."""
    from aim import Repo, Run
    from aim.sdk.index_manager import RepoIndexManager

    repo = Repo(".")
    (name,) = repo.list_all_runs()
    RepoIndexManager.get_index_manager(repo).index(name)
    run = Run(name, repo=Repo("."), read_only=True)
    metrics = [metric for metric in run.metrics() if metric.name.startswith(PREFIX)]
    found = [(metric.name, step) for metric in metrics for step in metric.values.sparse_list()[0]]
    return Kept(found, "active" if run.active else "ended")


LOGGER = Logger("aim", _open, kept, "returns when RocksDB, in the training process, has it", fast=False)
