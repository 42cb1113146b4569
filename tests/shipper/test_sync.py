"""Delivering a journal without a live process: when it is left alone, and what the result says."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.support.journals import ALIVE, make, say
from trackside.journal.cursor import Cursor, save_cursor
from trackside.journal.directory import JournalDirectory, create_directory
from trackside.journal.file_counts import FileCounts
from trackside.journal.files import read_json
from trackside.journal.lock import JournalLock
from trackside.journal.meta import FileProgress, Meta, Target, WorkerState
from trackside.journal.reader import Position
from trackside.shipper import sync as sync_
from trackside.shipper.forked import ForkServer
from trackside.shipper.inventory import report
from trackside.shipper.protocol import EXIT_DONE, EXIT_LOCKED, EXIT_REFUSED, EXIT_UNFINISHED
from trackside.shipper.sync import address_of, sync_journal
from trackside.shipper.sync_progress import SyncProgress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def no_shipper(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shipper may be started."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("a shipper was started")

    monkeypatch.setattr(sync_, "spawn", fail)


class Shipper:
    """A shipper that does what it is told, looked at twice, then leaves with ``code``."""

    def __init__(self, code: int, act: Callable[[], None]) -> None:
        self.returncode: int | None = None
        self.options: dict[str, Any] = {}
        self.command: list[str] = []
        self.terminated = False
        self._code, self._act, self._looks = code, act, 0

    def __call__(self, command: list[str], **options: Any) -> Shipper:
        self.command, self.options = command, options
        return self

    def poll(self) -> int | None:
        self._looks += 1
        if self._looks == 1:
            self._act()
        if self._looks == 3:
            self.returncode = self._code
        return self.returncode

    def terminate(self) -> None:
        self.terminated = True


@pytest.fixture
def shipper(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Shipper]:
    """Has ``sync`` start one of those."""
    monkeypatch.setattr(sync_, "POLL", 0.0)

    def install(code: int, act: Callable[[], None] = lambda: None) -> Shipper:
        made = Shipper(code, act)
        monkeypatch.setattr(sync_, "spawn", made)
        return made

    return install


# Left alone


@pytest.mark.usefixtures("no_shipper")
def test_what_is_left_to_others(tmp_path: Path) -> None:
    """A living training's shipper, another one at work, one that has delivered it. What can't be read."""
    live = sync_journal(make(tmp_path, ALIVE))
    assert live.result == "running"
    assert f"process {ALIVE.pid} on {ALIVE.host} lives" in live.detail
    journal = make(tmp_path)
    lock = JournalLock(journal.lock)
    assert lock.acquire()
    assert sync_journal(journal).result == "busy"
    lock.release()
    journal.meta.write_text("{}")
    assert sync_journal(journal).result == "unreadable"
    journal.remove()
    assert sync_journal(journal).result == "gone", "delivered by whom it was left to, or removed"
    assert sync_journal(create_directory(tmp_path, "empty")).result == "unreadable"


# The end of a shipper


def test_delivered(tmp_path: Path, shipper: Callable[..., Shipper]) -> None:
    """With a shipper of its own, which is given as long as wanted. The progress in points."""
    journal = make(tmp_path, points=10)
    seen: list[SyncProgress] = []

    def ship_some() -> None:
        save_cursor(journal.cursor("mlflow"), Cursor(Position(), shipped=3, rejected=1))
        say(journal, phase="done")

    started = shipper(EXIT_DONE, ship_some)
    done = sync_journal(journal, give_up_after=7.0, on_progress=seen.append)
    assert (done.result, done.detail) == ("delivered", "10 points")
    assert seen == [SyncProgress(4, 10), SyncProgress(4, 10), SyncProgress(10, 10)]
    assert started.command[3:] == [str(journal.path), "--linger", "7.0"]
    assert started.options["tracking_uri"] == "sqlite:///mlflow.db"


def test_files_are_shown_as_status_shows_them(tmp_path: Path, shipper: Callable[..., Shipper]) -> None:
    """How many are left and how many bytes, without what has gone out of the current one."""
    journal = make(tmp_path, points=10)
    cursor = journal.cursor("mlflow")
    counts = FileCounts(delivered=1, waiting=3, bytes_waiting=5000, bytes_settled=100, takes=True)
    save_cursor(cursor, Cursor(Position(), files=counts))
    before = report(journal)
    assert before is not None
    seen: list[SyncProgress] = []

    def ship_some() -> None:
        now = FileCounts(delivered=2, waiting=2, bytes_waiting=3000, bytes_settled=2100, takes=True)
        save_cursor(cursor, Cursor(Position(), shipped=10, files=now))
        say(journal, phase="shipping", workers={"mlflow": WorkerState(files=FileProgress("w.pt", 2500, 500))})

    shipper(EXIT_UNFINISHED, ship_some)
    done = sync_journal(journal, on_progress=seen.append)
    assert seen[0] == SyncProgress(10, 10, 2, 4, 2500)
    assert (seen[0].left, done.result) == ("2 files, 2.5 kB wait", "unfinished")
    assert done.detail.endswith("; 2 files, 2.5 kB wait")
    assert (before.files.waiting, before.files.bytes_waiting) == (3, 5000)
    after = report(journal)
    assert after is not None
    assert (after.files.waiting, after.files.bytes_waiting) == (2, 3000)

    def ship_all() -> None:
        say(journal, phase="done")

    shipper(EXIT_DONE, ship_all)
    assert sync_journal(journal, on_progress=seen.append).detail == "20 points, 4 files"
    assert seen[-1] == SyncProgress(20, 20, 4, 4)


@pytest.mark.parametrize(
    ("code", "state", "result", "detail"),
    [
        (
            EXIT_REFUSED,
            {"phase": "refused", "error": "run abc was deleted"},
            "refused",
            "run abc was deleted",
        ),
        (EXIT_UNFINISHED, {"phase": "stopped"}, "unfinished", "see "),
        (
            EXIT_UNFINISHED,
            {"phase": "retrying", "error": "refused connection"},
            "unfinished",
            "refused connection",
        ),
        (EXIT_LOCKED, {}, "busy", "another shipper is at work on it"),
        (
            EXIT_LOCKED,
            {"phase": "shipping", "artifacts_error": "no such store"},
            "unfinished",
            "another shipper keeps it and fails: no such store",
        ),
        (-9, {}, "unfinished", "see "),
    ],
)
def test_not_delivered(  # noqa: PLR0917 - the fixtures come on top
    tmp_path: Path,
    shipper: Callable[..., Shipper],
    code: int,
    state: dict[str, str],
    result: str,
    detail: str,
) -> None:
    """The reason is the shipper's last word, or its log."""
    journal = make(tmp_path, points=10)
    shipper(code, lambda: say(journal, **state) if state else None)
    done = sync_journal(journal)
    assert done.result == result
    assert done.detail.startswith(detail)


def test_an_exit_code_alone_delivers_nothing(tmp_path: Path, shipper: Callable[..., Shipper]) -> None:
    """It may be that of another program."""
    shipper(EXIT_DONE)
    assert sync_journal(make(tmp_path, points=10)).result == "unfinished"


def test_a_journal_that_is_removed_meanwhile_is_not_delivered(
    tmp_path: Path, shipper: Callable[..., Shipper]
) -> None:
    """What was in it is lost."""
    journal = make(tmp_path, points=10)
    shipper(EXIT_UNFINISHED, journal.remove)
    done = sync_journal(journal)
    assert (done.result, "was removed before" in done.detail) == ("unfinished", True)


@pytest.mark.parametrize("fails", [True, False])
def test_a_journal_that_another_sync_delivers_meanwhile_is_gone(
    tmp_path: Path, shipper: Callable[..., Shipper], monkeypatch: pytest.MonkeyPatch, *, fails: bool
) -> None:
    """The log of the second shipper can't be opened any more, or the journal is seen to be missing before."""
    journal = make(tmp_path, points=10)

    def remove_and_fail(*_: Any, **__: Any) -> Shipper:
        journal.remove()
        raise FileNotFoundError(journal.log)

    def remove_and_look(path: Path) -> bool:
        journal.remove()
        return path.exists()

    if not fails:
        monkeypatch.setattr(sync_, "_is_writable", remove_and_look)
    assert sync_journal(journal, start=remove_and_fail).result == "gone"


def test_an_error_seen_on_the_way_is_remembered(tmp_path: Path, shipper: Callable[..., Shipper]) -> None:
    """The shipper that gives up has nothing more to say of it."""
    journal = make(tmp_path)
    started = shipper(EXIT_UNFINISHED, lambda: say(journal, phase="retrying", error="connection refused"))
    poll = started.poll

    def poll_and_forget() -> int | None:
        code = poll()
        if code is not None:
            say(journal, phase="stopped")
        return code

    started.poll = poll_and_forget  # type: ignore[method-assign]
    assert sync_journal(journal).detail == "connection refused"


def test_a_shipper_that_takes_too_long_is_left_to_itself(
    tmp_path: Path, shipper: Callable[..., Shipper]
) -> None:
    """It continues alone, and is not terminated."""
    made = shipper(EXIT_DONE)
    assert sync_journal(make(tmp_path, points=10), follow_for=0.0).result == "busy"
    assert not made.terminated
    assert made.returncode is None


def test_ctrl_c_stops_the_shipper_too(tmp_path: Path, shipper: Callable[..., Shipper]) -> None:
    """It is in a session of its own, and would continue."""

    def interrupt(_progress: SyncProgress) -> None:
        raise KeyboardInterrupt

    journal = make(tmp_path)
    started = shipper(EXIT_DONE, lambda: save_cursor(journal.cursor("mlflow"), Cursor()))
    with pytest.raises(KeyboardInterrupt):
        sync_journal(journal, on_progress=interrupt)
    assert started.terminated


# Where to


@pytest.mark.parametrize(
    ("recorded", "environment", "address"),
    [
        ("http://***@host:5000", "http://ada:hunter2@host:5000", "http://ada:hunter2@host:5000"),
        ("http://***@host:5000", "http://ada:hunter2@other:5000", "http://***@host:5000"),
        ("http://host:5000", "", "http://host:5000"),
        ("sqlite:////a/mlflow.db", "sqlite:////b/mlflow.db", "sqlite:////a/mlflow.db"),
    ],
)
def test_credentials_come_from_the_environment(
    recorded: str, environment: str, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If it names the very server: what belongs to one must not be sent to another."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", environment)
    journal = make(tmp_path, tracking_uri=recorded)
    meta = read_json(journal.meta, Meta)
    assert meta is not None
    assert address_of(meta) == address


def test_another_address_for_the_same_server(tmp_path: Path, shipper: Callable[..., Shipper]) -> None:
    """Given by hand it is taken as it is."""
    started = shipper(EXIT_DONE)
    sync_journal(make(tmp_path), tracking_uri="http://elsewhere:5000")
    assert started.options["tracking_uri"] == "http://elsewhere:5000"


# For real

OFFLINE = """
import trackside
with trackside.start("x", config={"lr": 0.1}):
    for step in range(50):
        trackside.log({"loss": 0.5, "lr": 0.1}, step=step)
"""


def test_an_offline_run_delivered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made and written as if there had been a server all the time. Nothing is left on disk.

    A second sync, which starts its shipper after the first has delivered everything, has nothing to do.
    """
    uri = new_database(tmp_path)
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    subprocess.run([sys.executable, "-c", OFFLINE], check=True, timeout=60)
    (path,) = (tmp_path / "journals").iterdir()
    journal = JournalDirectory(path)
    results: list[str] = []

    def start_late(*arguments: Any, **options: Any) -> Any:
        results.append(sync_journal(journal).result)
        return server.start(*arguments, **options)

    with ForkServer() as server:
        results.append(sync_journal(journal, start=start_late).result)
    assert (results, path.exists()) == (["delivered", "gone"], False)
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("x")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.status, run.data.params) == ("FINISHED", {"lr": "0.1"})
    assert len(client.get_metric_history(run.info.run_id, "loss")) == 50
    assert run.info.start_time < run.info.end_time
    assert Target(uri).tracking_uri == uri
