"""Journals of trainings that live, are dead, or run elsewhere, and what their shippers say."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.journal.directory import JournalDirectory, create_directory
from trackside.journal.files import write_atomically
from trackside.journal.format import ConfigRecord, MetricsRecord
from trackside.journal.meta import Meta, State, Target
from trackside.journal.owner import Owner, this_process
from trackside.journal.provenance import folder_number
from trackside.journal.writer import JournalWriter

if TYPE_CHECKING:
    from pathlib import Path

ALIVE = this_process()
DEAD = msgspec.structs.replace(ALIVE, started=0.0, start_ticks=None)
ELSEWHERE = Owner("elsewhere", 1, 0.0, "another-boot another-namespace")


def make(root: Path, owner: Owner = DEAD, *, points: int = 0, **target: Any) -> JournalDirectory:
    """A journal of ``owner``'s, with that many points in it."""
    journal = create_directory(root, target.get("experiment_name", "x"))
    target = {"tracking_uri": "sqlite:///mlflow.db", **target}
    started_ms = int(time.time() * 1000) - 90_000
    folder = folder_number(journal.path)
    meta = Meta("id", owner, Target(**target), 0, "/", started_ms, folder=folder)
    write_atomically(journal.meta, msgspec.json.encode(meta))
    writer = JournalWriter(journal)
    writer.append(ConfigRecord(0, 1, {"lr": "0.1"}, {"lr": 0.1}))
    for step in range(points // 2):
        writer.append(MetricsRecord(0, 1, step, None, None, {"loss": 0.5, "lr": 0.1}))
    writer.close()
    return journal


def say(journal: JournalDirectory, **fields: Any) -> None:
    """As a shipper would."""
    write_atomically(journal.state, msgspec.json.encode(State(pid=1, **fields)))
