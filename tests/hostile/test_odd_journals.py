"""Journals that another user made or broke, beside a good one: the commands in processes of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.support.journals import DEAD
from trackside.journal.cursor import Cursor
from trackside.journal.directory import JournalDirectory
from trackside.journal.format import MetricsRecord
from trackside.journal.meta import DestinationSpec, Meta, RunInfo, State, Target
from trackside.journal.provenance import folder_number
from trackside.journal.reader import Position
from trackside.journal.writer import JournalWriter
from trackside.shipper.inventory import report
from trackside.shipper.leftovers import leftovers_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

EVIL = "\x1b]0;owned\x07\x1b[2J[red]x[/]\x9b31m\u202e\r\nforged: delivered"


def make(root: Path, name: str, **changes: Any) -> JournalDirectory:
    """A journal of a dead process with four points for a file beside it. ``changes`` are its meta's."""
    journal = JournalDirectory(root / name)
    journal.path.mkdir(mode=0o700)
    label = "".join(c for c in name if c.isascii() and c.isalnum())
    file = DestinationSpec("jsonl", "jsonl", {"path": str(root.parent / f"{label}.jsonl")})
    target = Target("sqlite:///nowhere.db", checkpoint_dir="/checkpoints")
    now = int(time.time() * 1000)
    folder = folder_number(journal.path)
    meta = Meta("id", DEAD, target, 1, str(root), now, mlflow=False, destinations=(file,), folder=folder)
    meta = msgspec.structs.replace(meta, **changes)
    journal.meta.write_bytes(msgspec.json.encode(meta))
    writer = JournalWriter(journal)
    for step in range(2):
        writer.append(MetricsRecord(0, 1, step, None, None, {"loss": 0.5, "lr": 0.1}))
    writer.close()
    return journal


def replace_by_fifo(path: Path) -> None:
    """Put a pipe whose other end never opens in place of ``path``."""
    path.unlink(missing_ok=True)
    os.mkfifo(path)


@pytest.fixture
def private() -> Iterator[None]:
    """A umask that keeps what is made to this user."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def root(tmp_path: Path, private: None) -> Path:
    """A folder with one good journal and many odd ones."""
    root = tmp_path / "journals"
    root.mkdir(mode=0o700)
    for part in ("meta", "state", "scoreboard", "exit_code", "lock", "log", "rejected"):
        replace_by_fifo(getattr(make(root, f"a fifo for {part}"), part))
    for number, kind in enumerate([os.mkfifo, os.mkdir]):
        segment = make(root, f"b segment {number}").segment(1)
        segment.unlink()
        kind(segment)
    endless = make(root, "c endless").scoreboard
    endless.unlink()
    endless.symlink_to("/dev/zero")
    sparse = make(root, "d sparse").state
    sparse.touch()
    os.truncate(sparse, 1 << 40)
    os.truncate(make(root, "e sparse segment").segment(1), 1 << 40)
    owner = msgspec.structs.replace(DEAD, pid=-5)
    make(root, "f owner", owner=owner)
    make(root, "g owner", owner=msgspec.structs.replace(DEAD, pid=1 << 61))
    make(root, "h folder", working_directory="\0/odd")
    nul = make(root, "i nul").meta
    nul.write_bytes(nul.read_bytes().replace(b'"name":"jsonl"', b'"name":"a\\u0000b"'))
    make(root, os.fsdecode(b"j \xff bytes"))
    told = make(root, "k " + EVIL.replace("/", ""))
    state = State(pid=1, error=EVIL, status="FAILED", run=RunInfo(EVIL, "1", "", None))
    told.state.write_bytes(msgspec.json.encode(state))
    beyond = make(root, "l cursor").cursor("jsonl")
    beyond.write_bytes(b'{"position": {"segment": -1, "offset": -8, "seq": 1e99}, "shipped": 4}')
    make(root, "m fine")
    return root


def run(root: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """A command of ``trackside`` on ``root``. Its output as text."""
    command = [sys.executable, "-m", "trackside", *arguments, "--dir", str(root)]
    environment = {**os.environ, "FORCE_COLOR": "", "PYTHONIOENCODING": "utf-8"}
    return subprocess.run(
        command, capture_output=True, encoding="utf-8", timeout=150, check=False, env=environment
    )


@pytest.mark.timeout(300)
@pytest.mark.process
def test_one_odd_journal_stops_no_command_on_the_others(root: Path) -> None:
    """``status`` lists all journals and ``sync`` delivers what it can, in bounded time, without escapes."""
    shown, listed, synced = run(root, "status"), run(root, "status", "--json"), run(root, "sync")
    for done in (shown, listed, synced):
        assert "Traceback" not in done.stderr
        assert done.returncode == 1
        assert not [c for c in done.stdout + done.stderr if not c.isprintable() and c != "\n"]
        assert "\nforged" not in done.stdout
    conditions = {os.path.basename(one["journal"]): one["condition"] for one in json.loads(listed.stdout)}
    assert len(conditions) == len(os.listdir(root)) + synced.stdout.count(": delivered (4 points)\n")
    assert conditions["m fine"] == "waiting"
    assert conditions["a fifo for meta"] == "unreadable"
    assert "m fine: delivered (4 points)" in synced.stdout
    for part in ("a fifo for lock", "a fifo for log", "b segment 0", "i nul"):
        assert f"{part}: unreadable" in synced.stdout
        assert conditions[part] == "unreadable"
    assert conditions["c endless"] == "untrusted"
    assert len((root.parent / "mfine.jsonl").read_text().splitlines()) >= 2
    assert "owned" in shown.stdout


@pytest.mark.timeout(60)
def test_start_looks_past_odd_journals(root: Path) -> None:
    """Looking for earlier attempts among odd journals raises nothing, and finds the good one."""
    assert root / "m fine" in leftovers_of(root, "/checkpoints", "sqlite:///nowhere.db")


def test_what_is_asked_about_a_journal_of_others_acts_on_no_terminal(tmp_path: Path, private: None) -> None:
    """Whoever made the journal can't forge or hide a line of what ``sync`` says it would do."""
    spec = DestinationSpec("jsonl", "jsonl", {"path": EVIL})
    target = Target("http://x/" + EVIL, EVIL, checkpoint_dir="/c/" + EVIL)
    journal = make(tmp_path, "one", folder=1, target=target, destinations=(spec,), mlflow=True)
    (journal.path / "artifacts").mkdir()
    (journal.path / "artifacts" / EVIL.replace("/", "")).touch()
    command = [sys.executable, "-m", "trackside", "sync", str(journal.path)]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.returncode == 1
    assert "may be another user's work" in done.stderr
    assert "owned" in done.stderr
    assert not [c for c in done.stdout + done.stderr if not c.isprintable() and c != "\n"]
    assert "\nforged" not in done.stderr


def test_a_cursor_that_cannot_be_is_none(tmp_path: Path, private: None) -> None:
    """A place before the journal's beginning, or beyond any count, is taken for no cursor at all."""
    journal = make(tmp_path, "one")
    journal.cursor("jsonl").write_bytes(msgspec.json.encode(Cursor(Position(1, -8, 2), shipped=4)))
    found = report(journal)
    assert found is not None
    assert (found.pending, found.shipped) == (4, 0)
