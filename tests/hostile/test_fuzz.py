"""Any bytes in the place of a journal's files: no crash, no hang, no growth.

``make fuzz`` looks for ten minutes, ``make fuzz FUZZ_SECONDS=60 FUZZ_SEED=7`` for one, from the start of an
earlier run. ``make test`` looks for a few seconds.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import secrets
import shutil
import time
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from tests.faults.fake import FakeDestination
from tests.hostile.odd_bytes import odd_bytes, odd_json, odd_records
from tests.journal.samples import layout_frame, sample_frame, sealed
from tests.journal.tools import read_all
from tests.support.journals import DEAD
from trackside.destinations.mlflow.run_id_file import RUN_ID_FILE, read_run_id_file
from trackside.events import LifecycleEvent
from trackside.journal.cursor import Cursor, load_cursor
from trackside.journal.directory import JournalDirectory
from trackside.journal.family import ParentUnknownError, parent_run_id, parents_first
from trackside.journal.files import read_json
from trackside.journal.format import ConfigRecord, LifecycleRecord, MetricsRecord
from trackside.journal.meta import DestinationSpec, Meta, RunInfo, State, Target, WorkerState
from trackside.journal.progress import Progress
from trackside.journal.reader import Position
from trackside.journal.scoreboard import SignalSeen, read_signals
from trackside.journal.sealing import Sealer
from trackside.journal.trust import vouch_for, withdraw
from trackside.journal.writer import JournalWriter
from trackside.lifecycle.crash_notes import notes_directory, read_notes
from trackside.shipper.inventory import living_runs, report
from trackside.shipper.leftovers import last_step_of, leftovers_of
from trackside.shipper.service import Shipper
from trackside.shipper.sync import address_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECONDS = float(os.environ.get("FUZZ_SECONDS") or 4)
SEED = int(os.environ.get("FUZZ_SEED") or secrets.randbelow(1_000_000))
A_ROUND = 60
"""Examples between two looks at the clock."""

SHIP_EVERY = 30
"""Reading takes milliseconds, and a shipper a tenth of a second: it meets a part of the examples."""

SLOW = 5.0
"""Seconds of processor time that no example takes."""

GROWTH = 96 << 20
"""Bytes of memory that the examples after the first rounds may leave behind: hypothesis keeps some, too."""

JOB = "job"


class Place:
    """A folder with a whole journal of a dead process, the files of which are changed and put back."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "journals"
        self.journal = JournalDirectory(self.root / "one")
        self.journal.path.mkdir(parents=True, mode=0o700)
        vouch_for(self.journal.path)  # a journal of others is not even read
        self._write_records()
        self._write_files()
        self.files = {
            str(path.relative_to(self.root)): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file()
        }
        segment = "one/00000001.seg"
        self.files[segment] = _with_samples(self.files[segment].rstrip(b"\0")) + bytes(64)
        self.put(segment, self.files[segment])

    def _write_records(self) -> None:
        writer = JournalWriter(self.journal)
        writer.append(ConfigRecord(0, 1, {"lr": "0.1"}, {"lr": 0.1}))
        for step in range(20):
            writer.append(MetricsRecord(0, 1, step, 0.0, "train", {"loss": 0.5, "lr": 0.1}))
        writer.append(LifecycleRecord(0, 5, "exited", "FAILED", "boom", 15, 1, "ValueError", "Traceback ..."))
        writer.scoreboard.note_signal(15, 3)
        writer.close()

    def _write_files(self) -> None:
        spec = DestinationSpec("extra", "jsonl", {"path": "x.jsonl"})
        target = Target(
            "sqlite:///x.db", "digits", run_name="first", checkpoint_dir="/c", parent_journal="/p"
        )
        meta = Meta("id", DEAD, target, 0, "/", 1, terminate_signals=(15,), job=JOB, destinations=(spec,))
        meta = msgspec.structs.replace(meta, after=(str(self.journal.path),))
        lifecycle = [LifecycleRecord(7, 5, "crashed", "FAILED", "boom")]
        info = RunInfo("abc", "1", "/artifacts", None)
        state = State(1, "retrying", info, error="no", lifecycle=lifecycle, signals=[SignalSeen(15, 1, 2, 1)])
        state.workers = {"mlflow": WorkerState("FAILED")}
        cursor = Cursor(Position(1, 0, 0), shipped=2, destination={"version": 1, "a": 1}, transform={"b": []})
        waiting = [ConfigRecord(1, 1, {"lr": "0.1"}, {"lr": 0.1})]
        rejected = {"destination": "fake", "seq": 3, "metrics": {"a": 1.0}}
        note = LifecycleEvent("crashed", message="boom", error_type="ValueError", timestamp_ms=5)
        notes = notes_directory(self.root, JOB)
        notes.mkdir(parents=True)
        for path, value in {
            self.journal.meta: meta,
            self.journal.state: state,
            self.journal.cursor("mlflow"): cursor,
            self.journal.cursor("fake"): cursor,
            self.journal.path / "parent.json": {"run_id": "abc"},
            self.journal.rejected: rejected,
            notes / "rank-1.json": note,
        }.items():
            path.write_bytes(msgspec.json.encode(value))
        (self.journal.path / "config-fake.msgpack").write_bytes(msgspec.msgpack.encode(waiting))
        (notes / "rank-2.exit").write_bytes(b"\1\0\0\0")
        self.journal.exit_code.write_bytes(b"\1\0\0\0")
        (self.journal.path / RUN_ID_FILE).write_bytes(b"abc123\n")

    def put(self, name: str, data: bytes) -> None:
        """Have ``data`` as the contents of a file."""
        (self.root / name).write_bytes(data)

    def names(self) -> list[str]:
        """All that lies here."""
        return sorted(str(path.relative_to(self.root)) for path in self.root.rglob("*"))

    def size(self) -> int:
        """Bytes that all files have."""
        return sum(path.stat().st_size for path in self.root.rglob("*") if path.is_file())

    def odd(self) -> st.SearchStrategy[tuple[str, bytes]]:
        """The name of a file, and what to put there."""
        return st.sampled_from(sorted(self.files)).flatmap(
            lambda name: st.tuples(st.just(name), _contents(name, self.files[name]))
        )


def _with_samples(records: bytes) -> bytes:
    """A segment with samples behind its records, the first ones sealed."""
    frames = [records.ljust(-(-len(records) // 8) * 8, b"\0"), layout_frame(0), layout_frame(2)]
    for seq in range(23, 43):
        frame = sample_frame(seq % 2 * 2, seq)
        frames.append(sealed(frame) if seq < 33 else frame)
    return b"".join(frames)


def _contents(name: str, valid: bytes) -> st.SearchStrategy[bytes]:
    if name.endswith((".json", ".jsonl")):
        return odd_json(valid) | odd_bytes(valid)
    return odd_bytes(valid) | odd_records(valid) if name.endswith(".seg") else odd_bytes(valid)


def seal(journal: JournalDirectory, *, dead: bool) -> None:
    """Seal what a reader would return: it then returns the same."""
    before = read_all(journal, dead=dead)[0]
    Sealer(journal).seal(journal.segment_numbers(), newest=1, writer_dead=dead)
    after = read_all(journal, dead=dead)[0]
    assert repr(after) == repr(before)


def look(place: Place) -> None:
    """Everything that reads a journal somebody may have changed: the commands, and ``start()``."""
    journal, root = place.journal, place.root
    report(journal)
    leftovers_of(root, "/c", "sqlite:///x.db")
    living_runs(root)
    parents_first([journal])
    read_notes(root, JOB, since_ms=0)
    read_run_id_file(journal.path)
    read_signals(journal.scoreboard)
    load_cursor(journal.cursor("fake"))
    for dead in (True, False):
        read_all(journal, dead=dead)
        seal(journal, dead=dead)
    meta = read_json(journal.meta, Meta)
    if meta is not None:
        address_of(meta)
        last_step_of(meta)
        with contextlib.suppress(ParentUnknownError):
            parent_run_id(journal.path, meta)


def ship(place: Place) -> None:
    """Deliver the journal into memory. What the shipper writes is bounded. Then all is put back."""
    meta = read_json(place.journal.meta, Meta)
    if meta is None:
        return
    before = place.size()
    destination = FakeDestination()
    shipper = Shipper(place.journal, meta, [destination], progress=Progress(place.journal), linger=0.0)
    shipper.run()
    if place.journal.path.exists():
        assert place.size() < before + (1 << 20)
    shutil.rmtree(place.root)
    for name, data in place.files.items():
        (place.root / name).parent.mkdir(parents=True, exist_ok=True)
        place.put(name, data)


@pytest.fixture
def nothing_logged() -> Iterator[None]:
    """Pytest would keep it all. By logging's own call: each logger remembers whether it is enabled."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.timeout(SECONDS + 240)
@pytest.mark.usefixtures("handlers_put_back", "nothing_logged")
@pytest.mark.outside
def test_any_bytes_in_a_journal_are_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No bytes in any file make a reader or a shipper raise, hang, or leave memory, files or descriptors."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    place = Place(tmp_path)
    names = place.names()
    process = psutil.Process()
    counted = 0
    worst = 0.0
    resting = process.memory_info().rss

    def one(changed: tuple[str, bytes]) -> None:
        nonlocal counted, worst
        name, data = changed
        place.put(name, data)
        before = time.process_time()
        look(place)
        assert place.names() == names
        if counted % SHIP_EVERY == 0:
            ship(place)
        place.put(name, place.files[name])
        worst = max(worst, time.process_time() - before)
        assert worst < SLOW
        counted += 1

    quiet = settings(
        max_examples=A_ROUND,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    descriptors = 0
    end = time.monotonic() + SECONDS
    rounds = 0
    while rounds < 2 or time.monotonic() < end:
        seed(SEED + rounds)(quiet(given(place.odd())(one)))()
        rounds += 1
        gc.collect()  # a shipper's process ends, and this one does not
        if rounds == 2:
            resting, descriptors = process.memory_info().rss, process.num_fds()
    withdraw(place.journal.path)
    grown = process.memory_info().rss - resting
    print(f"\nseed {SEED}: {counted} examples, slowest {worst:.2f} s, {grown / 1e6:.1f} MB more, ", end="")
    print(f"{process.num_fds() - descriptors} descriptors more")
    assert grown < GROWTH
    assert process.num_fds() <= descriptors + 2
