"""How long an attempt waits for those before it: only for their run, only while that gets somewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.support.journals import DEAD, make, say
from trackside.errors import RetryableError
from trackside.journal.cursor import Cursor, save_cursor
from trackside.journal.files import read_json
from trackside.journal.lock import JournalLock
from trackside.journal.meta import Meta, RunInfo, Target, WorkerState
from trackside.journal.outbox import Outbox
from trackside.journal.reader import Position
from trackside.shipper.earlier import ALONE, LONGEST, MAX_STARTS, PATIENCE, EarlierAttempts

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory

RUN = RunInfo("abc", "1", "/", None)


class Next:
    """The next attempt, and all it waits with: a clock, a server, what it starts and what it says."""

    def __init__(self, *journals: JournalDirectory, **target: Any) -> None:
        after = tuple(str(journal.path) for journal in journals)
        target = {"tracking_uri": "sqlite:///mlflow.db", **target}
        meta = Meta("next", DEAD, Target(**target), 0, "/", 0, after=after)
        self.now = 0.0
        self.is_up = True
        self.started: list[str] = []
        self.notices: list[str] = []
        self.attempts = EarlierAttempts(
            meta,
            notice=self.notices.append,
            clock=lambda: self.now,
            start=lambda journal, *_: self.started.append(journal.name),
        )
        self.attempts.deliver()

    def probe(self) -> None:
        """Ask the server."""
        if not self.is_up:
            raise RetryableError("connection refused")

    def waits(self) -> bool:
        """Whether it waits now."""
        try:
            self.attempts.check(self.probe)
        except RetryableError:
            return True
        return False

    def waited(self, limit: float = 1e4) -> float:
        """Seconds until it waits no more."""
        while self.waits():
            self.now += 1
            assert self.now < limit, "it waits for ever"
        return self.now


@pytest.fixture
def journal(tmp_path: Path) -> JournalDirectory:
    """The journal of an attempt before, with 20 points."""
    return make(tmp_path, points=20)


@pytest.fixture
def shipper(journal: JournalDirectory) -> JournalLock:
    """A shipper that is at work on it."""
    lock = JournalLock(journal.lock)
    assert lock.acquire()
    return lock


@pytest.mark.parametrize(
    "told",
    [
        {"phase": "refused"},
        {"phase": "artifacts"},
        {
            "phase": "retrying",
            "workers": {"mlflow": WorkerState("FAILED", finished=True), "other": WorkerState()},
        },
        {"phase": "stopped", "workers": {"mlflow": WorkerState("FAILED", finished=True)}},
        {"phase": "starting", "workers": {"mlflow": WorkerState(refused="the run was deleted")}},
    ],
)
@pytest.mark.usefixtures("shipper")
def test_what_decides_nothing_more_is_not_waited_for(journal: JournalDirectory, told: Any) -> None:
    """Above all not another destination of an earlier attempt, which may be down for good."""
    say(journal, **told)
    after = Next(journal)
    assert not after.waits()
    assert after.started == [journal.name], "what is left of it is delivered all the same"
    assert not after.notices


def test_another_ranks_journal_is_not_waited_for(journal: JournalDirectory) -> None:
    """It has no MLflow run."""
    meta = read_json(journal.meta, Meta)
    assert meta is not None
    journal.meta.write_bytes(msgspec.json.encode(msgspec.structs.replace(meta, mlflow=False)))
    assert not Next(journal).waits()


@pytest.mark.usefixtures("shipper")
def test_files_of_an_earlier_attempt_are_waited_for_unless_they_fail(journal: JournalDirectory) -> None:
    """Its traceback would else come on the page after the page was turned."""
    Outbox(journal.path).put("traceback.txt", "Traceback")
    say(journal, run=RUN, workers={"mlflow": WorkerState("FAILED", finished=True)})
    after = Next(journal)
    assert after.waits()
    say(journal, run=RUN, workers={"mlflow": WorkerState("FAILED", finished=True, error="no such bucket")})
    assert not after.waits()


def test_where_no_shipper_is_at_work_it_starts_a_few_then_goes_on(journal: JournalDirectory) -> None:
    """Each one dies before it locks the journal."""
    after = Next(journal)
    assert ALONE <= after.waited() < PATIENCE
    assert after.started == [journal.name] * MAX_STARTS
    (notice,) = after.notices
    assert "no shipper is at work on it" in notice
    assert str(journal.path) in notice
    assert "`trackside sync`" in notice


@pytest.mark.usefixtures("shipper")
def test_a_shipper_that_gets_nowhere_is_left_behind(journal: JournalDirectory) -> None:
    """It is stopped, or hangs, or fails for a reason of its own, and the server answers others."""
    say(journal, phase="retrying", run=RUN, error="401 for the old token")
    after = Next(journal)
    assert PATIENCE <= after.waited() < PATIENCE + 10
    assert "nothing has moved for 60 s: 401 for the old token" in after.notices[0]


@pytest.mark.usefixtures("shipper")
def test_an_outage_does_not_count(journal: JournalDirectory) -> None:
    """Both attempts meet it, and after it the first one still makes the run."""
    after = Next(journal)
    after.is_up = False
    for _ in range(2000):
        assert after.waits()
        after.now += 1
    with pytest.raises(RetryableError, match="connection refused"):
        after.attempts.check(after.probe)
    after.is_up = True
    assert after.waits()
    say(journal, phase="done")
    assert not after.waits()
    assert not after.notices


@pytest.mark.usefixtures("shipper")
def test_progress_is_waited_for_but_not_for_ever(journal: JournalDirectory) -> None:
    """A journal of a week may take longer than anybody wants to wait for a run's id."""
    after = Next(journal)
    for second in range(int(LONGEST)):
        save_cursor(journal.cursor("mlflow"), Cursor(Position(seq=second)))
        after.now = float(second)
        assert after.waits()
    assert after.waited() < LONGEST + 10
    assert "longer than 10 minutes" in after.notices[0]


def test_a_parent_is_waited_for_as_well(journal: JournalDirectory, shipper: JournalLock) -> None:
    """The same limits, but for progress: its run is made first of all."""
    child = Next(parent_journal=str(journal.path))
    assert child.started == [journal.name]
    with pytest.raises(RetryableError, match="waiting until the parent has a run id"):
        child.attempts.check_parent(child.probe)
    shipper.release()
    child.now = ALONE + 1
    assert child.attempts.check_parent(child.probe) == "no shipper is at work on it"
