"""Several attempts at one run, in every order of ends: only the owner's end is the run's."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import msgspec
import psutil
import pytest
from mlflow.tracking import MlflowClient

from tests.faults.delivery import Delivery, delivery, new_meta
from tests.faults.fake import until
from trackside.destinations.mlflow import claim as claim_
from trackside.destinations.mlflow import heartbeat as heartbeat_
from trackside.destinations.mlflow import owner as mlflow_owner
from trackside.destinations.mlflow.owner import LONG_GONE, QUIET, OwnerWatch, may_claim, owner_tags
from trackside.destinations.mlflow.run_id_file import read_run_id_file
from trackside.journal.owner import Owner, boot_id, this_process
from trackside.lifecycle.evidence import Evidence
from trackside.lifecycle.verdict import SUCCEEDED
from trackside.shipper.worker_report import state_of
from trackside.system.processes import start_ticks
from trackside.tag_names import END_REASON_TAG, HEARTBEAT_TAG, JOURNAL_TAG, OWNER_TAG, SUMMARY_TAG
from trackside.text import iso_seconds

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.destinations.mlflow.connection import Connection

ELSEWHERE = Owner("elsewhere", 1, 0.0, "another-boot another-namespace")
EXPERIMENT = "owners"


@pytest.fixture
def client(store: str) -> MlflowClient:
    """For reading it back."""
    return MlflowClient(store)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Heartbeats, and what is derived from them, in fractions of a second."""
    monkeypatch.setattr(heartbeat_, "HEARTBEAT_SECONDS", 0.1)
    monkeypatch.setattr(heartbeat_, "LOOK_SECONDS", 0.0)
    monkeypatch.setattr(claim_, "OWNER_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(mlflow_owner, "QUIET", 1.5)


@pytest.fixture
def other() -> Iterator[Other]:
    """Another process of this machine."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield Other(process)
        process.kill()


class Other:
    """A process that can own a run, and die."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        me = this_process()
        started = psutil.Process(process.pid).create_time()
        self.owner = Owner(me.host, process.pid, started, boot_id(), start_ticks(process.pid))

    def die(self) -> None:
        """End at once."""
        self._process.kill()
        self._process.wait()


def attempt(journals: Path, store: str, owner: Owner | None = None, **target: Any) -> Delivery:
    """An attempt of the process ``owner``, by default this one, that has opened its run."""
    target = {"experiment_name": EXPERIMENT, **target}
    meta = msgspec.structs.replace(new_meta(store, **target), owner=owner or this_process())
    made = Delivery(journals, store, meta=meta)
    made.worker.start()
    until(lambda: made.worker.opened, 60)
    return made


def end(rig: Delivery, **evidence: Any) -> None:
    """Have the attempt's process be over."""
    rig.evidence = Evidence(dead=True, **evidence)
    rig.worker.reader.writer_dead = True
    rig.worker.calls.wake.set()
    rig.join(60)
    rig.writer.close()


def finish(rig: Delivery) -> None:
    """Have it end well."""
    end(rig, finished="FINISHED", ended_ms=time.time_ns() // 1_000_000)


def fail(rig: Delivery) -> None:
    """Have it die without a word."""
    end(rig, died_ms=time.time_ns() // 1_000_000)


def status(client: MlflowClient, run_id: str) -> str:
    """The run's, now."""
    return str(client.get_run(run_id).info.status)


@pytest.mark.parametrize("owner_first", [True, False])
@pytest.mark.parametrize(("owner_ends", "joiner_ends"), [(finish, fail), (fail, finish)])
def test_the_owners_end_is_the_runs(  # noqa: PLR0917 - each a fixture, or a dimension
    store: str,
    client: MlflowClient,
    journals: Path,
    other: Other,
    owner_first: bool,
    owner_ends: Any,
    joiner_ends: Any,
) -> None:
    """Whoever ends first, and however the secondary writer ends."""
    owner = attempt(journals, store, other.owner)
    joiner = attempt(journals, store, run_id=owner.run_id, required_run=True)
    assert joiner.progress.state.run is not None
    assert joiner.progress.state.run.joined
    assert (owner.destination._claim.held, joiner.destination._claim.held) == (True, False)
    joiner.emit(3)
    ends = [(owner_ends, owner), (joiner_ends, joiner)]
    for ending, rig in ends if owner_first else ends[::-1]:
        ending(rig)
    run = client.get_run(owner.run_id)
    assert run.info.status == ("FINISHED" if owner_ends is finish else "FAILED")
    assert run.data.tags[JOURNAL_TAG] == owner.meta.journal_id
    assert OWNER_TAG not in run.data.tags
    assert len(client.get_metric_history(owner.run_id, "loss")) == 3
    assert not (owner.notices + joiner.notices)


def test_a_joiner_adds_and_changes_nothing(
    store: str, client: MlflowClient, journals: Path, other: Other
) -> None:
    """Tags, params and artifacts of the owner's stay. New ones come beside them."""
    owner = attempt(journals, store, other.owner, tags={"team": "a"})
    owner.configure({"lr": "0.1"})
    until(lambda: "lr" in client.get_run(owner.run_id).data.params)
    joiner = attempt(
        journals, store, run_id=owner.run_id, required_run=True, tags={"team": "b", "split": "test"}
    )
    joiner.configure({"lr": "0.2", "batch": "8"})
    finish(joiner)
    finish(owner)
    run = client.get_run(owner.run_id)
    assert run.data.params == {"lr": "0.1", "batch": "8"}
    assert (run.data.tags["team"], run.data.tags["split"]) == ("a", "test")
    assert "trackside.params.changed" not in run.data.tags
    assert "params differ" in joiner.notices
    names = [artifact.path for artifact in client.list_artifacts(owner.run_id)]
    assert "config.yaml" in names
    assert [name for name in names if joiner.meta.journal_id[:8] in name]


def test_a_resumed_run_whose_owner_is_dead_is_taken_over(
    store: str, client: MlflowClient, journals: Path, other: Other
) -> None:
    """Before the dead process's own shipper has said so: that one leaves the status to the new owner."""
    first = attempt(journals, store, other.owner)
    other.die()
    second = attempt(journals, store, run_id=first.run_id, required_run=True)
    assert second.destination._claim.held
    fail(first)
    assert status(client, first.run_id) == "RUNNING"
    finish(second)
    assert status(client, first.run_id) == "FINISHED"


def test_a_process_that_executes_itself_again_takes_its_run_over(
    store: str, client: MlflowClient, journals: Path
) -> None:
    """Number and start time are the same, and so it is no other process that lives."""
    first = attempt(journals, store)
    second = attempt(journals, store, run_id=first.run_id, required_run=True)
    finish(second)
    fail(first)
    assert status(client, first.run_id) == "FINISHED"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("ends_early", [True, False])
def test_an_owner_that_vanishes_is_succeeded(
    store: str, client: MlflowClient, journals: Path, monkeypatch: pytest.MonkeyPatch, ends_early: bool
) -> None:
    """On another machine, with a fresh heartbeat: a preempted job that is started again elsewhere.

    Its status is set however soon it ends.
    """
    owner = attempt(journals, store, ELSEWHERE)
    owner.worker.calls.stop()
    owner.join(60)
    joiner = attempt(journals, store, run_id=owner.run_id, required_run=True)
    assert not joiner.destination._claim.held
    if ends_early:
        with monkeypatch.context() as patch:
            patch.setattr(mlflow_owner, "QUIET", 1e9)
            joiner.evidence = Evidence(finished="FINISHED")
            joiner.worker.calls.wake.set()
            until(lambda: state_of(joiner.worker).status == "FINISHED")  # the training does not wait for it
            assert status(client, owner.run_id) == "RUNNING"
    else:
        until(lambda: "this process now owns run" in joiner.notices)
        assert joiner.destination._claim.held
        assert status(client, owner.run_id) == "RUNNING"
    finish(joiner)
    assert status(client, owner.run_id) == "FINISHED"
    owner.writer.close()


@pytest.mark.usefixtures("quick")
def test_an_owner_that_was_only_silent_finds_its_successor(
    store: str, client: MlflowClient, journals: Path
) -> None:
    """It keeps adding points, and says so. The status is the successor's."""
    owner = attempt(journals, store, ELSEWHERE)
    owner.worker.calls.stop()
    owner.join(60)
    joiner = attempt(journals, store, run_id=owner.run_id, required_run=True)
    until(lambda: joiner.destination._claim.held)
    again = owner.restart()
    again.start()
    until(lambda: again.opened, 60)
    fail(owner)
    assert status(client, owner.run_id) == "RUNNING"
    finish(joiner)
    assert status(client, owner.run_id) == "FINISHED"


@pytest.mark.usefixtures("quick")
def test_a_status_that_another_program_set_is_taken_back(
    store: str, client: MlflowClient, journals: Path, other: Other
) -> None:
    """A plain ``mlflow.start_run(run_id=...)`` beside the training ends the run as FINISHED."""
    owner = attempt(journals, store, other.owner)
    client.set_terminated(owner.run_id, "FINISHED")
    until(lambda: status(client, owner.run_id) == "RUNNING")
    fail(owner)
    assert status(client, owner.run_id) == "FAILED"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("outlives", [True, False])
def test_two_trainings_with_one_checkpoint_directory(  # noqa: PLR0917 - fixtures
    store: str, client: MlflowClient, journals: Path, tmp_path: Path, other: Other, outlives: bool
) -> None:
    """Both are told. The status is that of the one which ends last."""
    place = str(tmp_path / "checkpoints")
    one = attempt(journals, store, other.owner, checkpoint_dir=place)
    two = attempt(journals, store, checkpoint_dir=place)
    assert two.run_id == one.run_id
    assert f"another training (process {other.owner.pid} on " in two.notices
    if outlives:
        fail(one)
        until(lambda: status(client, one.run_id) == "RUNNING")
        finish(two)
    else:
        fail(two)
        finish(one)
    assert status(client, one.run_id) == "FINISHED"


def test_a_run_that_no_trackside_made_is_owned(store: str, client: MlflowClient, journals: Path) -> None:
    """``mlflow run`` and orchestrators make a run, set MLFLOW_RUN_ID, and look for a status only then."""
    run_id = client.create_run("0").info.run_id
    rig = attempt(journals, store, run_id=run_id, required_run=True)
    assert rig.destination._claim.held
    finish(rig)
    assert status(client, run_id) == "FINISHED"


def test_what_is_delivered_late_does_not_undo_a_later_end(
    store: str, client: MlflowClient, journals: Path, other: Other
) -> None:
    """An offline attempt is synced after a later one has finished the run: it adds its points."""
    other.die()
    run_id = client.create_run("0").info.run_id
    meta = msgspec.structs.replace(new_meta(store, run_id=run_id, required_run=True), owner=other.owner)
    time.sleep(0.01)
    finish(attempt(journals, store, run_id=run_id, required_run=True))
    with delivery(journals, store, meta=meta) as late:
        late.emit(3)
        late.worker.start()
        fail(late)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert run.data.metrics["loss"] == 1.0


def test_an_older_attempt_never_sets_a_status_again(
    store: str, client: MlflowClient, journals: Path, tmp_path: Path, other: Other
) -> None:
    """Its shipper is restarted after a newer attempt has ended, by whatever clock its death is dated.

    A copied journal's files are as new as the copy.
    """
    place = str(tmp_path / "checkpoints")
    older = attempt(journals, store, other.owner, checkpoint_dir=place)
    older.worker.calls.stop()
    older.join(60)
    other.die()
    newer = attempt(journals, store, checkpoint_dir=place)
    assert newer.run_id == older.run_id
    finish(newer)
    before = client.get_run(older.run_id)
    older.restart().start()
    until(lambda: older.worker.opened, 60)
    assert older.progress.state.ownership == "lost"
    end(older, died_ms=time.time_ns() // 1_000_000 + 3_600_000)
    after = client.get_run(older.run_id)
    assert (after.info.status, after.info.end_time) == ("FINISHED", before.info.end_time)
    assert after.data.tags == before.data.tags


@pytest.mark.parametrize("resume_finished", [True, False])
def test_a_copied_journal_that_never_had_the_run_is_dated_by_what_it_says(  # noqa: PLR0917 - fixtures
    store: str, client: MlflowClient, journals: Path, tmp_path: Path, other: Other, resume_finished: bool
) -> None:
    """An offline attempt is copied, and delivered after a later one whose end is older than the copy.

    The run of that one keeps its status, and the checkpoints keep its name.
    """
    place = str(tmp_path / "checkpoints")
    first = attempt(journals, store, checkpoint_dir=place)
    other.die()
    meta = new_meta(store, checkpoint_dir=place, experiment_name=EXPERIMENT, resume_finished=resume_finished)
    meta = msgspec.structs.replace(meta, owner=other.owner)
    time.sleep(0.01)
    fail(first)
    again = attempt(journals, store, checkpoint_dir=place)
    finish(again)
    with delivery(journals, store, meta=meta) as late:
        late.emit(3)
        late.worker.start()
        end(late, died_ms=time.time_ns() // 1_000_000 + 3_600_000)
        assert (late.run_id == again.run_id) == resume_finished
    assert status(client, again.run_id) == "FINISHED"
    assert read_run_id_file(place) == again.run_id


@pytest.mark.parametrize("is_over", [True, False])
def test_a_write_that_came_too_late_is_put_back(  # noqa: PLR0917 - fixtures
    store: str,
    client: MlflowClient,
    journals: Path,
    other: Other,
    monkeypatch: pytest.MonkeyPatch,
    is_over: bool,
) -> None:
    """The older shipper stood still between look and write, and a newer attempt took the run over."""
    older = attempt(journals, store, other.owner)
    other.die()
    newer: list[Delivery] = []
    write = claim_._write

    def write_late(connection: Connection, wanted: str, ended_ms: int | None) -> None:
        if connection is older.destination._connection and not newer:
            newer.append(attempt(journals, store, run_id=older.run_id, required_run=True))
            if is_over:
                finish(newer[0])
        write(connection, wanted, ended_ms)

    monkeypatch.setattr(claim_, "_write", write_late)
    fail(older)
    run = client.get_run(older.run_id)
    assert run.info.status == ("FINISHED" if is_over else "RUNNING")
    if not is_over:
        finish(newer[0])
    assert status(client, older.run_id) == "FINISHED"


def test_an_outage_is_not_an_owners_silence() -> None:
    """While others could not look, the owner could not give a heartbeat either."""
    now = 0.0
    watch = OwnerWatch(clock=lambda: now)
    run = SimpleNamespace(data=SimpleNamespace(tags={JOURNAL_TAG: "theirs", HEARTBEAT_TAG: "a"}))
    assert watch.look(run) == "unsure"
    now += 3600
    assert watch.look(run) == "unsure"
    while watch.look(run) != "gone":
        now += 30
    assert now >= 3600 + QUIET - 40


def test_what_a_run_says_of_its_owner() -> None:
    """Each way to tell whether a run that shows RUNNING may be taken over."""
    mine = new_meta("sqlite://")

    def run(owner: Owner | None, silent_for: float | None = 1.0, journal: str = "theirs") -> Any:
        tags = {JOURNAL_TAG: journal}
        if owner is not None:
            tags |= {OWNER_TAG: owner_tags(msgspec.structs.replace(mine, owner=owner))[OWNER_TAG]}
        if silent_for is not None:
            beat = datetime.now(tz=timezone.utc) - timedelta(seconds=silent_for)
            tags[HEARTBEAT_TAG] = f"{beat.isoformat()} somewhere"
        info = SimpleNamespace(status="RUNNING", end_time=None, run_id="r")
        return SimpleNamespace(info=info, data=SimpleNamespace(tags=tags))

    me = this_process()
    parent = psutil.Process().parent()
    assert parent is not None
    living = Owner(me.host, parent.pid, parent.create_time(), boot_id(), start_ticks(parent.pid))
    dead = msgspec.structs.replace(me, start_ticks=1)
    rebooted = msgspec.structs.replace(ELSEWHERE, host=me.host)
    assert not may_claim(run(living, silent_for=LONG_GONE + 9), mine)
    assert may_claim(run(dead), mine)
    assert may_claim(run(me), mine), "this very process"
    assert may_claim(run(rebooted), mine)
    assert not may_claim(run(ELSEWHERE), mine)
    assert not may_claim(run(ELSEWHERE, silent_for=None), mine)
    assert may_claim(run(ELSEWHERE, silent_for=LONG_GONE + 9), mine)
    assert not may_claim(run(None), mine), "of an older version, and alive"
    assert may_claim(run(ELSEWHERE, journal=mine.journal_id), mine)
    beside = msgspec.structs.replace(mine, beside=("theirs",))
    assert not may_claim(run(me), beside), "a run on another bus of this process"


def test_a_run_that_was_handed_over_is_claimed_by_the_next_program() -> None:
    """However late that is delivered: what comes behind an ``exec`` decides. An earlier attempt does not."""
    began = 1_700_000_000_000
    summary = {"started": iso_seconds(began), "ended": iso_seconds(began + 60_000)}
    dead = msgspec.structs.replace(this_process(), start_ticks=1)

    def claims(reason: str, started_ms: int) -> bool:
        tags = {END_REASON_TAG: reason, SUMMARY_TAG: json.dumps(summary), JOURNAL_TAG: "theirs"}
        info = SimpleNamespace(status="FINISHED", end_time=began + 60_000, run_id="r")
        meta = msgspec.structs.replace(new_meta("sqlite:///x.db"), owner=dead, started_ms=started_ms)
        return may_claim(SimpleNamespace(info=info, data=SimpleNamespace(tags=tags)), meta)

    assert claims(SUCCEEDED, began + 5000)
    assert not claims(SUCCEEDED, began - 5000)
    assert not claims("exit code 0", began + 5000)
    assert claims("exit code 0", began + 61_000)


def test_watching_an_owner() -> None:
    """A heartbeat that changes is a living owner's, whatever the clocks of the two machines say."""
    now = 0.0
    watch = OwnerWatch(clock=lambda: now)

    def look(beat: str, *, for_seconds: float = 0.0) -> str:
        nonlocal now
        tags = {JOURNAL_TAG: "theirs", HEARTBEAT_TAG: beat}
        run = SimpleNamespace(data=SimpleNamespace(tags=tags))
        for _ in range(int(for_seconds)):
            now += 1
            watch.look(run)
        return watch.look(run)

    assert look("a") == "unsure"
    assert look("a", for_seconds=QUIET - 1) == "unsure"
    assert look("b") == "alive"
    assert look("b", for_seconds=QUIET - 1) == "alive"
    assert look("b", for_seconds=1) == "gone"
