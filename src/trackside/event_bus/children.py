"""Warn once that what child processes of a run log is not kept.

A forked child has detached from its parent's run (:mod:`trackside.lifecycle.fork`). A spawned one never had
it, and finds its parent's journal by the process that owns it. There are many workers. The first one that
logs leaves a file in the journal, which keeps the others silent. Nothing here is called before a child logs.
"""

from __future__ import annotations

import contextlib
import logging
import os
from typing import TYPE_CHECKING

import psutil

from trackside.journal.files import read_json
from trackside.journal.meta import Meta
from trackside.journal.opening import open_own
from trackside.journal.owner import is_alive
from trackside.settings import read_environment
from trackside.system.multiprocess import parent_number

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

logger = logging.getLogger("trackside.event_bus")

_SAID = "child_said"


def warn_of_child(journal: Path | None) -> bool:
    """If this is a child of a process that has a run, warn that what it logs is not kept.

    ``journal`` is the run's, if it is known. Return False if this is no such child.
    """
    journal = journal or _journal_of_parent()
    if journal is None:
        return False
    if _is_first(journal):
        meta = read_json(journal / "meta.json", Meta)
        logger.warning(
            "what process %d logs is not kept: the run belongs to process %s, and this is a child of it. "
            "Log in that process, or call trackside.start() in this one for a run of its own "
            "(logged once for all children)",
            os.getpid(),
            os.getppid() if meta is None else meta.owner.pid,
        )
    return True


def _is_first(journal: Path) -> bool:
    try:
        os.close(open_own(journal / _SAID, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    except OSError:  # the run has ended, and its journal is gone
        pass
    return True


def _journal_of_parent() -> Path | None:
    """Return the journal of the nearest living ancestor process that has a run."""
    with contextlib.suppress(Exception):  # without an answer, the bus gives its general warning
        owners = {}
        for path in read_environment().directory.glob("*/meta.json"):
            meta = read_json(path, Meta)
            if meta is not None and meta.mlflow and is_alive(meta.owner):
                owners[meta.owner.pid] = path.parent
        return next((owners[pid] for pid in _above() if pid in owners), None)
    return None


def _above() -> Iterator[int]:
    parent = parent_number()
    if parent is not None:
        yield parent
    yield from (process.pid for process in psutil.Process().parents())
