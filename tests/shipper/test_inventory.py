"""What lies here, and how it is doing: each condition of a journal."""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.support.journals import ALIVE, DEAD, ELSEWHERE, make, say
from trackside.journal.cursor import Cursor, save_cursor
from trackside.journal.directory import JournalDirectory, create_directory
from trackside.journal.files import read_json, write_atomically
from trackside.journal.format import LifecycleRecord, MetricsRecord
from trackside.journal.lock import JournalLock
from trackside.journal.meta import DestinationSpec, Meta, RunInfo, Target, WorkerState
from trackside.journal.outbox import Outbox
from trackside.journal.owner import SILENCE
from trackside.journal.reader import JournalReader
from trackside.journal.writer import JournalWriter
from trackside.shipper.inventory import (
    DestinationReport,
    FilesReport,
    journals_in,
    living_runs,
    owner_has_ended,
    report,
)
from trackside.shipper.leftovers import last_step_of, leftovers_of

if TYPE_CHECKING:
    from pathlib import Path


def condition(journal: JournalDirectory) -> str:
    """The journal's."""
    found = report(journal)
    assert found is not None
    return found.condition


def grow_old(journal: JournalDirectory, seconds: float) -> None:
    """Let nothing have happened in the journal for so long."""
    then = time.time() - seconds
    for path in journal.path.iterdir():
        os.utime(path, (then, then))


@pytest.mark.wheel
def test_a_journal_that_waits(tmp_path: Path) -> None:
    """No shipper has seen it yet: everything in it is pending."""
    journal = make(tmp_path, points=10, experiment_name="digits", run_name="first")
    found = report(journal)
    assert found is not None
    seen = msgspec.structs.asdict(found)
    assert 85 < seen.pop("age_seconds") < 600
    assert seen == {
        "journal": str(journal.path),
        "condition": "waiting",
        "delivery": "opening",
        "artifacts": [],
        "experiment": "digits",
        "run_name": "first",
        "run_id": None,
        "tracking_uri": "sqlite:///mlflow.db",
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "status": None,
        "emitted": 10,
        "shipped": 0,
        "pending": 10,
        "dropped": 0,
        "rejected": 0,
        "error": None,
        "destinations": [DestinationReport("mlflow", 0, 0, 0, None, None)],
        "files": FilesReport(),
        "uploading": None,
    }


def test_a_journal_half_way(tmp_path: Path) -> None:
    """What each destination has, the slowest counting. The run's id as soon as there is one."""
    journal = make(tmp_path, ALIVE, points=10)
    meta = read_json(journal.meta, Meta)
    assert meta is not None
    meta = msgspec.structs.replace(meta, destinations=(DestinationSpec("slow", "jsonl"),))
    write_atomically(journal.meta, msgspec.json.encode(meta))
    reader = JournalReader(journal)
    entries = reader.read(4)
    reader.close()
    fast, slow = entries[-1].after, entries[-2].after
    save_cursor(journal.cursor("mlflow"), Cursor(fast, shipped=4, rejected=0))
    save_cursor(journal.cursor("slow"), Cursor(slow, shipped=1, rejected=1))
    run = RunInfo("abc", "1", "/", None)
    workers = {"slow": WorkerState(error="no room")}
    say(journal, phase="retrying", error="down", status="KILLED", run=run, workers=workers)
    found = report(journal)
    assert found is not None
    assert (found.condition, found.run_id, found.status, found.error) == ("running", "abc", "KILLED", "down")
    assert (found.shipped, found.rejected, found.pending, found.emitted) == (1, 1, 8, 10)
    each = [(d.name, d.shipped, d.rejected, d.error) for d in found.destinations]
    assert each == [("mlflow", 4, 0, None), ("slow", 1, 1, "no room")]


def test_conditions(tmp_path: Path) -> None:
    """Who lives, who is at work, and what the server said."""
    journal = make(tmp_path)
    assert condition(journal) == "waiting"
    say(journal, phase="stopped")
    assert condition(journal) == "waiting"
    say(journal, phase="refused", error="gone")
    assert condition(journal) == "refused"
    lock = JournalLock(journal.lock)
    assert lock.acquire()
    assert condition(journal) == "shipping"
    lock.release()
    say(journal, phase="done")
    assert condition(journal) == "waiting", "to be cleared away: its shipper was killed"
    say(journal, phase="artifacts")
    assert condition(journal) == "waiting"
    Outbox(journal.path).put("config.yaml", "lr: 0.1")
    assert condition(journal) == "artifacts wait"
    found = report(journal)
    assert found is not None
    assert found.artifacts == ["config.yaml"]
    Outbox(journal.path).refuse(journal.path / "artifacts" / "config.yaml")
    say(journal, phase="done")
    assert condition(journal) == "rejected"
    journal.rejected.write_text("{}\n")
    assert condition(journal) == "rejected"
    assert condition(make(tmp_path, ALIVE)) == "running"


def test_what_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    """You must look at a journal with a damaged head."""
    journal = make(tmp_path, points=10)
    journal.meta.write_text('{"journal_id": 99}')
    found = report(journal)
    assert found is not None
    assert (found.condition, found.journal) == ("unreadable", str(journal.path))
    assert "damaged" in (found.error or "")
    assert living_runs(tmp_path) == set()
    assert leftovers_of(tmp_path, "/checkpoints", "sqlite:///mlflow.db") == []
    journal.remove()
    assert report(journal) is None


def test_journals_are_found_oldest_first(tmp_path: Path) -> None:
    """By their names. Other folders are left out, and a missing directory is empty."""
    assert journals_in(tmp_path / "none") == []
    (tmp_path / "a-file").touch()
    assert journals_in(tmp_path / "a-file") == []
    (tmp_path / "ranks-1000").mkdir()  # another user's, who keeps others from looking into it
    (tmp_path / "ranks-1000" / "meta.json").symlink_to("meta.json")
    names = sorted(make(tmp_path).name for _ in range(3))
    assert [journal.name for journal in journals_in(tmp_path)] == names


def test_a_trainer_elsewhere_lives_while_its_journal_moves(tmp_path: Path) -> None:
    """On a shared disk: the trainer's own marks count, and the shipper's heartbeat does."""
    journal = make(tmp_path, ELSEWHERE)
    meta = msgspec.json.decode(journal.meta.read_bytes(), type=Meta)
    assert not owner_has_ended(journal, meta)
    grow_old(journal, SILENCE + 60)
    assert owner_has_ended(journal, meta)
    say(journal)
    assert not owner_has_ended(journal, meta)
    assert condition(journal) == "running"


def test_living_runs(tmp_path: Path) -> None:
    """Those ``trackside reap`` spares: the process lives, and the run is known."""
    for owner, run_id in ((ALIVE, "lives"), (DEAD, "died")):
        say(make(tmp_path, owner), run=RunInfo(run_id, "1", "/", None))
    make(tmp_path, ALIVE)
    assert living_runs(tmp_path) == {"lives"}


def test_leftovers_of_the_same_checkpoints(tmp_path: Path) -> None:
    """Ended attempts with the same checkpoints and address, oldest first, without others and living ones."""
    mine = [make(tmp_path, checkpoint_dir="/checkpoints") for _ in range(2)]
    make(tmp_path, ALIVE, checkpoint_dir="/checkpoints")
    make(tmp_path, checkpoint_dir="/others")
    make(tmp_path)
    uri = "sqlite:///mlflow.db"
    make(tmp_path, checkpoint_dir="/checkpoints", tracking_uri="http://gone:5000")
    for address in (uri, f"trackside+{uri}"):
        assert leftovers_of(tmp_path, "/checkpoints", address) == sorted(journal.path for journal in mine)
    assert leftovers_of(tmp_path, None, uri) == []


# What an attempt without an answer of MLflow's counts on from


def later(journal: JournalDirectory, **target: Any) -> Meta:
    """A new attempt with the checkpoints of ``journal``'s."""
    wanted = Target(tracking_uri="sqlite:///mlflow.db", checkpoint_dir="/checkpoints", **target)
    return Meta("id", ALIVE, wanted, 0, "/", 0, after=(str(journal.path),))


def test_the_last_step_of_the_attempt_before(tmp_path: Path) -> None:
    """Read from its journal, though the segment behind the last one is made already."""
    journal = make(tmp_path, points=20, experiment_name="digits")
    write_atomically(journal.segment(2), bytes(4096))
    assert last_step_of(later(journal)) == 9
    assert last_step_of(later(journal, experiment_name="digits")) == 9
    assert last_step_of(later(journal, experiment_name="fine-tuning")) is None, "another run"
    assert last_step_of(later(journal, run_name="tuned")) is None, "another run"
    assert last_step_of(later(journal, run_name="tuned", resume_finished=True)) == 9
    assert last_step_of(later(journal, resume=False)) is None
    journal.remove()
    assert last_step_of(later(journal)) is None


def test_a_finished_attempt_is_not_counted_on_from(tmp_path: Path) -> None:
    """The next one is a run of its own."""
    journal = create_directory(tmp_path, "x")
    meta = Meta("id", DEAD, Target("sqlite:///mlflow.db"), 0, "/", 0)
    write_atomically(journal.meta, msgspec.json.encode(meta))
    writer = JournalWriter(journal)
    writer.append(MetricsRecord(0, 1, 4, None, None, {"loss": 0.5}))
    writer.append(LifecycleRecord(0, 1, "finished", "FINISHED"))
    writer.close()
    assert last_step_of(later(journal)) is None
    assert last_step_of(later(journal, resume_finished=True)) == 4
