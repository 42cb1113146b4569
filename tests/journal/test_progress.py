from __future__ import annotations

import errno
import logging
import os
import threading
from typing import TYPE_CHECKING

import pytest

from tests.journal.tools import new_journal
from trackside.journal import files
from trackside.journal.files import read_json
from trackside.journal.format import LifecycleRecord
from trackside.journal.meta import RunInfo, State, WorkerState
from trackside.journal.progress import MAX_NOTICES, Progress

if TYPE_CHECKING:
    from pathlib import Path


def test_changes_are_published_at_once(tmp_path: Path) -> None:
    """What one process says the other can read."""
    journal = new_journal(tmp_path)
    progress = Progress(journal)
    progress.update(phase="shipping", ownership="held")
    state = read_json(journal.state, State)
    assert state is not None
    assert (state.phase, state.ownership, state.pid) == ("shipping", "held", os.getpid())
    before = state.updated_ms
    progress.touch()
    state = read_json(journal.state, State)
    assert state is not None
    assert state.updated_ms >= before > 0


def test_silence_is_counted_whatever_the_time_of_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock set back an hour keeps back no sign of life."""
    now = 100.0
    monkeypatch.setattr("trackside.journal.progress.time.monotonic", lambda: now)
    progress = Progress(new_journal(tmp_path))
    monkeypatch.setattr("trackside.journal.progress.now_ms", lambda: 0)
    now += 31
    assert progress.silent_for == 31
    progress.touch()
    assert progress.silent_for == 0


def test_restarted_shipper_goes_on_from_its_predecessor(tmp_path: Path) -> None:
    """Everything is kept but the phase and the error, which are the dead one's."""
    journal = new_journal(tmp_path)
    record = LifecycleRecord(3, 1, "crashed", message="boom")
    Progress(journal).update(status="KILLED", error="down", phase="retrying", lifecycle=[record])
    state = Progress(journal).state
    assert (state.status, state.error, state.phase) == ("KILLED", None, "starting")
    assert state.lifecycle == [record]


def test_notice_is_told_once_and_only_so_many(tmp_path: Path) -> None:
    """The same text counts once, and a flood is cut off."""
    progress = Progress(new_journal(tmp_path))
    for number in range(2 * MAX_NOTICES):
        progress.notice("twice")
        progress.notice(f"notice {number}")
    assert len(progress.state.notices) == MAX_NOTICES
    assert progress.state.notices[0] == "twice"


def test_text_that_cannot_be_stored_is_spelled_out(tmp_path: Path) -> None:
    """An error that names an oddly named file must not end the shipper."""
    journal = new_journal(tmp_path)
    progress = Progress(journal)
    progress.update(error="no file \udcff")
    progress.notice("no file \udcff")
    state = read_json(journal.state, State)
    assert state is not None
    assert (state.error, state.notices) == ("no file \\udcff", ["no file \\udcff"])


def test_whatever_a_server_said_is_kept(tmp_path: Path) -> None:
    """Half a surrogate pair deep in the state does not keep the rest from being published."""
    journal = new_journal(tmp_path)
    progress = Progress(journal)
    info = RunInfo("abc", "7", "/artifacts/\ud83d", "http://mlflow/\udcff", name="cut \ud83d")
    progress.update(run=info, workers={"mlflow": WorkerState(error="cut \ud83d")}, artifacts_error="\ud83d")
    kept = read_json(journal.state, State)
    assert kept is not None
    assert kept.run is not None
    assert (kept.run.run_id, kept.run.name) == ("abc", "cut \ud83d")
    assert kept.workers["mlflow"].error == "cut \ud83d"
    assert kept.artifacts_error == "\\ud83d"


def test_unknown_field_is_a_mistake(tmp_path: Path) -> None:
    """A field there is none of is refused."""
    with pytest.raises(AttributeError):
        Progress(new_journal(tmp_path)).update(shiped=1)


def test_threads_publish_one_after_the_other(tmp_path: Path) -> None:
    """The last published state has what every thread said."""
    journal = new_journal(tmp_path)
    progress = Progress(journal)

    def work(number: int) -> None:
        for n in range(10):
            progress.notice(f"{number}-{n}")

    threads = [threading.Thread(target=work, args=[number]) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = read_json(journal.state, State)
    assert state is not None
    assert len(set(state.notices)) == 40


def test_journal_removed_under_it_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A state that can't be told is said once in the log."""
    journal = new_journal(tmp_path)
    progress = Progress(journal)
    journal.remove()
    with caplog.at_level(logging.WARNING):
        progress.update(phase="shipping")
        progress.touch()
    assert [record.levelname for record in caplog.records] == ["WARNING"]


def test_full_disk_publishes_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state's own block takes the news, where no new file can be made."""

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    journal = new_journal(tmp_path)
    progress = Progress(journal)
    progress.update(error="a long text about what goes wrong")
    monkeypatch.setattr(files, "write_atomically", refuse)
    progress.update(error="short", phase="retrying")
    state = read_json(journal.state, State)
    assert state is not None
    assert (state.error, state.phase) == ("short", "retrying")
