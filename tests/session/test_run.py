"""A run, from ``start()`` to its end. Where a real MLflow is of no matter, the shipper is a stub."""

from __future__ import annotations

import gc
import logging
import os
import re
import signal
import threading
from typing import TYPE_CHECKING

import msgspec
import psutil
import pytest
from mlflow.tracking import MlflowClient

import trackside
from tests.ends.harness import new_database, wait_until_settled
from tests.faults.fake import until
from tests.hooked import everything_hooked, wakeup_descriptor
from tests.parts import journal_of, kinds_of, parts_of, records_of
from tests.shipper.stub import StubShipper
from tests.support.program import run_python
from trackside.destinations.mlflow.findings import Finding
from trackside.destinations.mlflow.tags import counts_in
from trackside.errors import RunActiveError, TrackingError
from trackside.event_bus.bus import Bus
from trackside.events import ConfigEvent, LifecycleEvent, MetricsSample
from trackside.journal.cursor import Cursor
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json
from trackside.journal.meta import Meta, WorkerState
from trackside.journal.reader import JournalReader, Position
from trackside.session import assembly, fluent, plan
from trackside.session import shipper_handle as process_
from trackside.session.current import recording_runs
from trackside.session.further_shippers import further_shippers
from trackside.session.noop import NoopRun
from trackside.session.run import Counts
from trackside.session.shipper_handle import ShipperProcess
from trackside.shipper.protocol import DONE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.events import FinalStatus
    from trackside.session.run import Run


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A place for journals, no jobs around, and the process is afterwards as it was before."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plan, "_env_run_ids_used", {})
    before = everything_hooked()
    yield tmp_path
    left = list(recording_runs.values())
    for run in left:
        run.finish("KILLED")
    assert not left
    assert everything_hooked() == before


@pytest.fixture
def bus() -> Bus:
    """A bus of the test's own."""
    return Bus()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No shipper: the journal waits for ``trackside sync``."""
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubShipper:
    """A shipper that has delivered everything at once. No waiting for what does not come."""
    made = StubShipper()
    monkeypatch.setattr(process_, "spawn", made)
    monkeypatch.setattr(further_shippers, "start", made)
    monkeypatch.setattr(assembly, "begin_check", lambda _: Finding)  # no server is asked
    for name in ("START", "EXIT", "TERMINATE"):
        monkeypatch.setenv(f"TRACKSIDE_{name}_TIMEOUT", "0")
    return made


def meta_of(run: Run) -> Meta:
    """What the run's journal says of it."""
    found = read_json(journal_of(run).meta, Meta)
    assert found is not None
    return found


# Ending


@pytest.mark.usefixtures("offline")
@pytest.mark.wheel
def test_finish_and_start_again(bus: Bus) -> None:
    """Any number of runs one after the other, each in a journal of its own."""
    journals: set[str] = set()
    for step in range(3):
        run = trackside.start("x", bus=bus)
        bus.emit(MetricsSample(step, metrics={"loss": 0.5}))
        during = run.status
        run.finish()
        assert (during, run.status) == ("RUNNING", "FINISHED")
        assert [getattr(record, "step", None) for record in records_of(run)] == [None, step, None]
        assert kinds_of(run) == ["started", "finished"]
        journals.add(journal_of(run).name)
    assert len(journals) == 3
    assert bus.sinks == ()


@pytest.mark.usefixtures("offline")
def test_finish_is_idempotent(bus: Bus) -> None:
    """The first word counts, and nothing is written twice."""
    run = trackside.start("x", bus=bus)
    run.finish("failed")  # type: ignore[arg-type]  # case does not matter
    run.finish("FINISHED")
    assert run.status == "FAILED"
    assert kinds_of(run) == ["started", "finished"]


@pytest.mark.usefixtures("offline")
def test_a_status_that_is_none(bus: Bus) -> None:
    """An error that names the three there are, and the run continues."""
    run = trackside.start("x", bus=bus)
    with pytest.raises(ValueError, match=r"'DONE' is not a final status\. Use FINISHED"):
        run.finish("DONE")  # type: ignore[arg-type]
    assert recording_runs
    run.finish()


@pytest.mark.usefixtures("offline")
def test_finished_covers_nothing_up(bus: Bus) -> None:
    """A crash or a request to stop that was seen before is what the run ends with."""
    run = trackside.start("x", bus=bus)
    bus.emit(LifecycleEvent("terminating", message="preempted"))
    run.finish("FINISHED")
    assert run.status == "KILLED"


@pytest.mark.usefixtures("offline")
def test_a_signal_whose_event_waits_is_kept(bus: Bus) -> None:
    """``finish()`` right after a graceful stop: nothing was emitted in between."""
    got: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda number, _frame: got.append(number))
    try:
        run = trackside.start("x", bus=bus, terminate_signals=[signal.SIGUSR1])
        signal.raise_signal(signal.SIGUSR1)
        run.finish()
    finally:
        signal.signal(signal.SIGUSR1, previous)
    assert got == [signal.SIGUSR1]
    assert run.status == "KILLED"
    assert kinds_of(run) == ["started", "terminating", "finished"]


class Boom(Exception):  # noqa: N818
    """What went wrong."""


@pytest.mark.usefixtures("offline")
@pytest.mark.parametrize(
    ("error", "status", "kinds"),
    [
        (None, "FINISHED", []),
        (Boom("boom"), "FAILED", ["crashed"]),
        (SystemExit(0), "FINISHED", []),
        (SystemExit(None), "FINISHED", []),
        (SystemExit(3), "FAILED", ["crashed"]),
        (SystemExit("no data"), "FAILED", ["crashed"]),
        (KeyboardInterrupt(), "KILLED", ["crashed"]),
        (GeneratorExit(), "FINISHED", []),
    ],
    ids=repr,
)
def test_a_with_block_ends_the_run(
    bus: Bus, error: BaseException | None, status: str, kinds: list[str]
) -> None:
    """By whatever it is left. The exception goes on its way."""
    run = trackside.start("x", bus=bus)
    seen: BaseException | None = None
    try:
        with run as same:
            assert same is run
            if error is not None:
                raise error  # noqa: TRY301
    except BaseException as caught:
        seen = caught
    assert seen is error
    assert run.status == status
    assert kinds_of(run) == ["started", *kinds, "finished"]
    if isinstance(error, Boom):
        crash = records_of(run)[1]
        assert (crash.error_type, crash.message) == ("Boom", "boom")
        assert "in test_a_with_block_ends_the_run" in crash.traceback


@pytest.mark.usefixtures("offline")
def test_the_end_of_an_offline_run_says_how_it_goes_out(
    bus: Bus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it is kept, and the command that delivers it."""
    monkeypatch.setenv("TRACKSIDE_QUIET", "off")
    caplog.set_level(logging.INFO, "trackside")
    run = trackside.start("x", bus=bus)
    caplog.clear()
    run.finish()
    text = caplog.text
    assert str(journal_of(run).path) in text
    assert "`trackside sync`" in text


@pytest.mark.usefixtures("offline")
def test_emitting_after_the_end_warns_and_raises_nothing(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """Once, that no sink listens."""
    run = trackside.start("x", bus=bus)
    run.finish()
    for _ in range(3):
        bus.emit(MetricsSample(1, metrics={"loss": 0.5}))
    assert [record.getMessage() for record in caplog.records] == [
        "something was logged, but no run is started and no sink attached: call trackside.start()"
    ]


@pytest.mark.usefixtures("offline")
def test_sinks_of_the_run_go_with_it(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """They hear everything from the start on, are detached and closed. Others on the bus stay."""
    heard: list[object] = []

    class Sink:
        closed = 0

        def on_metrics(self, event: object) -> None:
            heard.append(event)

        on_config = on_lifecycle = on_metrics

        def close(self) -> None:
            self.closed += 1
            raise Boom

    mine, others = Sink(), bus.attach(Sink())
    run = trackside.start("x", bus=bus, config={"lr": 1}, sinks=[mine, heard.append])
    bus.emit(MetricsSample(1))
    assert len(heard) == 2 * 2 + 2 + 1
    run.finish()
    assert (mine.closed, others.closed) == (1, 0)
    assert bus.sinks == (others,)
    assert "closing sink" in caplog.text


# Two at once


@pytest.mark.usefixtures("offline")
def test_a_second_start_on_the_same_bus(bus: Bus) -> None:
    """An error that names the run and both ways out. The first run continues."""
    run = trackside.start("x", bus=bus)
    with pytest.raises(
        RunActiveError, match=f"{journal_of(run).name}.*trackside.finish.., or give start.. a bus=Bus"
    ):
        trackside.start("y", bus=bus)
    other = trackside.start("y", bus=Bus())
    bus.emit(MetricsSample(1, metrics={"loss": 0.5}))
    run.finish()
    other.finish("FAILED")
    assert (run.status, other.status) == ("FINISHED", "FAILED")
    assert len(records_of(run)) == 3
    assert len(records_of(other)) == 2
    assert len(list(journal_of(run).path.parent.glob("*/meta.json"))) == 2


# Modes


@pytest.mark.parametrize("mode", ["disabled", "DISABLED"])
def test_disabled_writes_nothing_at_all(bus: Bus, place: Path, mode: str, monkeypatch, caplog) -> None:
    """No file, no hook, no process, no warning. Every call works, twice on one bus as well."""
    monkeypatch.setenv("TRACKSIDE_MODE", mode)
    before = everything_hooked()
    run, other = trackside.start("x", config={"lr": 1}, bus=bus), trackside.start("x", bus=bus)
    with run, other:
        assert everything_hooked() == before
        bus.emit(MetricsSample(1, metrics={"loss": 0.5}))
        assert isinstance(other, NoopRun)
        assert (other.run_id, other.url, other.status, other.tracking_uri) == (None, "", "RUNNING", "")
        assert (run.status, run.dropped, run.counts, run.flush()) == ("FINISHED", 0, Counts(), True)
        assert other.activate() is other
    with pytest.raises(ValueError, match="Use FINISHED, FAILED or KILLED"):
        run.finish("DONE")  # type: ignore[arg-type]
    assert list(place.iterdir()) == []
    assert not caplog.records


@pytest.mark.usefixtures("offline")
def test_offline_keeps_everything_for_sync(bus: Bus, place: Path, caplog) -> None:
    """No shipper, no run id, no waiting. The journal stays, without credentials in it."""
    run = trackside.start("x", tracking_uri="http://ada:hunter2@mlflow:5000", config={"lr": 0.1}, bus=bus)
    bus.emit(MetricsSample(1, metrics={"loss": 0.5}))
    assert (run.run_id, run.url, run.flush(0.0), run.status) == (None, "http://mlflow:5000", False, "RUNNING")
    assert "hunter2" not in run.tracking_uri
    assert run.activate() is run
    assert "the run is offline, so what you log through mlflow.* is not kept" in caplog.text
    run.finish()
    assert not run.flush(0.0), "nothing has been delivered"
    assert parts_of(run).shipper.pid is None
    assert meta_of(run).mode == "offline"
    assert [type(record).__name__ for record in records_of(run)] == [
        "LifecycleRecord",
        "ConfigRecord",
        "MetricsRecord",
        "LifecycleRecord",
    ]
    for path in journal_of(run).path.iterdir():
        assert b"hunter2" not in path.read_bytes()


# With a shipper


def test_what_the_shipper_is_given(bus: Bus, stub: StubShipper, place: Path) -> None:
    """The address with its credentials, by the environment only. The directory the training began in."""
    with trackside.start("x", tracking_uri="http://ada:hunter2@mlflow:5000", bus=bus) as run:
        assert stub.options["tracking_uri"] == "http://ada:hunter2@mlflow:5000"
        assert stub.options["working_directory"] == str(place)
        assert stub.options["log"] == journal_of(run).log
        assert run.tracking_uri == "http://***@mlflow:5000"


def test_id_and_url_are_known_after_the_end_too(bus: Bus, stub: StubShipper) -> None:
    """They are asked for in the last line of a script, when the journal may be gone."""
    with trackside.start("x", bus=bus) as run:
        pass
    journal_of(run).remove()
    assert run.run_id == "abc"
    assert run.url == "http://mlflow:5000/#/experiments/7/runs/abc"


def test_flush_waits_for_every_destination(bus: Bus, stub: StubShipper) -> None:
    """True when all cursors are past what was emitted. False when the time is up."""
    stub.cursor = None
    with trackside.start("x", bus=bus) as run:
        bus.emit(MetricsSample(1, metrics={"loss": 0.5}))
        assert not run.flush(0.0), "no destination has said anything"
        stub.cursor = Cursor(position=Position(1, 0, 1))
        stub.speak()
        assert not run.flush(0.0), "it has the first record, of two"
        stub.cursor = Cursor(position=Position(1, 0, 2), shipped=1)
        stub.speak()
        assert run.flush(0.0)
        assert run.counts == Counts(shipped=1)
        bus.emit(MetricsSample(2, metrics={"loss": 0.5, "note": "text"}))
        assert not run.flush(0.0)
        assert run.dropped == run.counts.dropped == 1
    assert run.flush(), "the end waited for it"


def test_counts_are_those_of_the_end(bus: Bus, stub: StubShipper) -> None:
    """Read before the journal went."""
    with trackside.start("x", bus=bus) as run:
        pass
    journal_of(run).remove()
    assert run.counts == Counts(shipped=7)


def test_a_server_that_does_not_answer_is_one_warning(bus: Bus, stub: StubShipper, caplog) -> None:
    """``start(wait=True)`` continues, and so does the end. Both say where things are kept, and why."""
    stub.cursor, stub.state = None, {"phase": "retrying", "error": "connection refused"}
    run = trackside.start("x", tracking_uri="http://mlflow:5000", bus=bus, wait=True)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    for part in ("http://mlflow:5000", "(connection refused)", str(journal_of(run).path), "delivered when"):
        assert part in record.getMessage()
    assert run.run_id is None
    caplog.clear()
    run.finish()
    (record,) = caplog.records
    assert "has not taken everything yet (connection refused)" in record.getMessage()
    assert str(journal_of(run).path) in record.getMessage()
    assert "trackside sync" in record.getMessage()
    assert not run.flush(), "and it says so"


def test_silence_is_a_server_that_does_not_answer(bus: Bus, stub: StubShipper, caplog) -> None:
    """A shipper that has not said a word yet."""
    stub.cursor = stub.state = None
    with trackside.start("x", bus=bus, wait=True):
        assert "(no answer in 0 s)" in caplog.text
    assert "it takes longer than 0 s" in caplog.text


def test_notices_of_the_shipper_reach_the_log(bus: Bus, stub: StubShipper, caplog) -> None:
    """Each once, whenever the run looks."""
    assert stub.state is not None
    stub.state["notices"] = ["one"]
    with trackside.start("x", bus=bus, wait=True) as run:
        assert [record.getMessage() for record in caplog.records] == ["one"]
        stub.state["notices"] = ["one", "two"]
        stub.speak()
        run.flush()
    assert [record.getMessage() for record in caplog.records] == ["one", "two"]


def test_a_shipper_that_tidied_up_meanwhile(bus: Bus, stub: StubShipper, caplog) -> None:
    """The process was held up for seconds in ``finish()``: the journal is gone because all is delivered."""
    run = trackside.start("x", bus=bus)
    stub.say(DONE)
    stub.returncode = 0
    journal_of(run).state.unlink()
    run.finish()
    assert not caplog.records
    assert run.flush()


def test_a_refused_end(bus: Bus, stub: StubShipper, caplog) -> None:
    """The run was deleted under way: the end says so, and does not wait."""
    run = trackside.start("x", bus=bus, wait=True)
    stub.state, stub.cursor = {"phase": "refused", "error": "run abc was deleted"}, None
    stub.speak()
    run.finish()
    assert "has not taken everything yet (run abc was deleted)" in caplog.text
    assert not run.flush()


def test_the_end_names_who_refuses(bus: Bus, stub: StubShipper, tmp_path: Path, caplog) -> None:
    """MLflow has everything, and its status is true. The destination beside it takes nothing more."""
    beside = {"type": "jsonl", "path": str(tmp_path / "x.jsonl"), "name": "beside"}
    assert stub.state is not None
    workers = {"mlflow": WorkerState("FINISHED", finished=True), "beside": WorkerState(refused="no room")}
    stub.state |= {"phase": "shipping", "workers": workers}
    run = trackside.start("x", bus=bus, destinations=[beside])
    run.finish()
    assert "destination beside has failed permanently (no room)" in caplog.text
    assert "MLflow at" not in caplog.text
    assert parts_of(run).delivery.told == "FINISHED"
    assert not run.flush(), "one of them has not got it"


@pytest.mark.parametrize("ownership", ["lost", "joined"])
def test_the_end_names_no_status_that_another_attempt_sets(
    bus: Bus, stub: StubShipper, ownership: str, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    """A newer attempt has taken the run over since the start, or has had it all along."""
    monkeypatch.setenv("TRACKSIDE_QUIET", "off")
    caplog.set_level(logging.INFO)
    assert stub.state is not None
    with trackside.start("x", bus=bus):
        stub.state["ownership"] = ownership
        stub.speak()
    assert "logged run abc" in caplog.text
    assert "FINISHED" not in caplog.text


def test_the_end_names_the_status_that_mlflow_was_told(
    bus: Bus, stub: StubShipper, monkeypatch: pytest.MonkeyPatch, caplog
) -> None:
    """Another rank has crashed, which the shipper knows by its note, and this process does not."""
    monkeypatch.setenv("TRACKSIDE_QUIET", "off")
    caplog.set_level(logging.INFO)
    assert stub.state is not None
    stub.state["status"] = "FAILED"
    with trackside.start("x", bus=bus):
        pass
    assert "run abc is FAILED" in caplog.text


@pytest.mark.usefixtures("offline")
def test_an_offline_journal_that_was_removed(bus: Bus, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    """Nothing is kept, and `trackside sync` has nothing to deliver."""
    monkeypatch.setenv("TRACKSIDE_QUIET", "off")
    caplog.set_level(logging.INFO)
    with trackside.start("x", bus=bus) as run:
        journal_of(run).remove()
    assert "was removed before everything in it was delivered" in caplog.text
    assert "is kept in" not in caplog.text


def test_a_dead_shipper_is_not_promised(bus: Bus, stub: StubShipper, caplog) -> None:
    """Another one may be at work on the journal. Where none is, that is what is said."""
    stub.cursor, stub.state = None, {"phase": "shipping"}
    run = trackside.start("x", bus=bus)
    stub.returncode = 1
    run.finish()
    assert "keeps trying" not in caplog.text
    assert "No shipper is at work on it. To deliver it, run `trackside sync`." in caplog.text


def test_finish_in_another_thread(bus: Bus, stub: StubShipper) -> None:
    """The wakeup descriptor stays open: the system still writes signal numbers to it, not to a new file."""
    run = trackside.start("x", bus=bus)
    descriptor = wakeup_descriptor()
    assert descriptor == parts_of(run).shipper.pipe.write_end
    thread = threading.Thread(target=run.finish)
    thread.start()
    thread.join()
    os.fstat(descriptor)
    with trackside.start("x", bus=bus) as again:
        assert wakeup_descriptor() == parts_of(again).shipper.pipe.write_end
    parts_of(run).hooks.signals.unhook_all()  # what only this thread could
    parts_of(run).shipper.pipe.close()


def test_a_ctrl_c_while_it_starts(bus: Bus, stub: StubShipper, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a notebook: the run that may have been made ends as KILLED, and the bus is free again."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(ShipperProcess, "wait_for", interrupt)
        with pytest.raises(KeyboardInterrupt):
            trackside.start("x", bus=bus, wait=True)
    assert recording_runs == {}
    assert bus.sinks == ()
    reader = JournalReader(JournalDirectory(stub.started[0].path))
    last = reader.read()[-1].record
    reader.close()
    assert (last.kind, last.status) == ("finished", "KILLED")  # type: ignore[union-attr]
    with trackside.start("x", bus=bus):
        pass


def test_activating(bus: Bus, stub: StubShipper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once is enough. The run ends MLflow's fluent one, with its own status, and not after the end."""
    calls: list[object] = []
    monkeypatch.setattr(fluent, "_make_active", lambda uri, *, run_id: calls.append((uri, run_id)))
    monkeypatch.setattr(fluent, "_deactivate", calls.append)
    run = trackside.start("x", tracking_uri="http://ada:hunter2@mlflow:5000", bus=bus)
    assert run.activate() is run
    assert run.activate() is run
    assert calls == [("http://ada:hunter2@mlflow:5000", "abc")]
    run.finish("FAILED")
    assert calls[1:] == ["FAILED"]
    with pytest.raises(TrackingError, match="the run has ended"):
        run.activate()


def test_a_run_names_its_source_and_its_job(bus: Bus, stub: StubShipper, place: Path) -> None:
    """What the shipper needs to know of the training process."""
    (place / "checkpoints").mkdir()
    with trackside.start(
        "digits",
        run_name="first",
        artifact_location=place / "artifacts",
        tags={"team": "vision"},
        description="what it is",
        parent_run_id="def",
        checkpoint_dir="checkpoints",
        resume=False,
        bus=bus,
        terminate_signals=(signal.SIGTERM, signal.SIGUSR1),
        journal_cap=1 << 24,
    ) as run:
        meta = meta_of(run)
    assert (meta.owner.pid, meta.rank, meta.mode) == (os.getpid(), 0, "online")
    assert (meta.terminate_signals, meta.cap) == ((15, int(signal.SIGUSR1)), 1 << 24)
    target = msgspec.structs.asdict(meta.target)
    tags = target.pop("tags")
    assert tags["team"] == "vision"
    assert tags["mlflow.note.content"] == "what it is"
    assert target == {
        "tracking_uri": f"sqlite:///{place}/mlflow.db",
        "experiment_name": "digits",
        "experiment_id": None,
        "run_name": "first",
        "run_id": None,
        "required_run": False,
        "artifact_location": str(place / "artifacts"),
        "parent_run_id": "def",
        "parent_journal": None,
        "checkpoint_dir": str(place / "checkpoints"),
        "resume": False,
        "resume_finished": False,
        "adopted": "",
    }


# With MLflow


@pytest.fixture
def store(place: Path, monkeypatch: pytest.MonkeyPatch) -> MlflowClient:
    """An empty store, which the environment names."""
    uri = new_database(place)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    return MlflowClient(uri)


@pytest.mark.process
def test_everything_given_is_in_mlflow(store: MlflowClient, place: Path, caplog) -> None:
    """The whole of a run on the default bus: names, tags, params, metrics, artifacts, status, counts."""
    parent = store.create_run("0").info.run_id
    run = trackside.start(
        "digits",
        run_name="first",
        artifact_location=(place / "artifacts").as_uri(),
        config={"optimizer": {"lr": 0.1}, "api_key": "very-secret-value"},
        tags={"team": "vision", "n": 1},
        description="what it is",
        parent_run_id=parent,
    )
    assert run.run_id is not None
    assert f"/runs/{run.run_id}/model-metrics" in run.url
    trackside.log({"loss": 0.5, "naïve:%": 1.0, "note": "text"}, step=1, epoch=2, prefix="val")
    trackside.log({"loss": float("nan")}, step=2)
    trackside.log({"loss": 0.25})
    trackside.emit(ConfigEvent({"added": "later"}))
    trackside.emit(MetricsSample(float("inf"), metrics=[1]))  # type: ignore[arg-type]
    assert run.flush()
    assert run.counts == Counts(shipped=5, dropped=2)
    run.finish()
    found = store.get_run(run.run_id)
    assert (found.info.status, found.info.run_name) == ("FINISHED", "first")
    assert store.get_experiment(found.info.experiment_id).name == "digits"
    assert found.info.artifact_uri.startswith((place / "artifacts").as_uri())
    tags = found.data.tags
    assert (tags["team"], tags["n"], tags["mlflow.note.content"]) == ("vision", "1", "what it is")
    assert (tags["mlflow.parentRunId"], tags["mlflow.source.type"]) == (parent, "LOCAL")
    assert counts_in(tags) == {"emitted": 7, "shipped": 5, "dropped": 2}
    assert tags["trackside.dropped"] == "2"
    assert found.data.params["optimizer.lr"] == "0.1"
    assert found.data.params["added"] == "later"
    assert "very-secret-value" not in str(found.data.params)
    history = {metric.step: metric.value for metric in store.get_metric_history(run.run_id, "loss")}
    assert list(history) == [2, 3], "a missing step is the one after the last"
    assert found.data.metrics["val/loss"] == 0.5
    assert found.data.metrics["epoch"] == 2.0
    assert [artifact.path for artifact in store.list_artifacts(run.run_id)] == ["config.yaml"]
    until(lambda: not [*(place / "journals").iterdir()])
    messages = [record.getMessage() for record in caplog.records]
    assert any("'val/naïve:%' is not a name MLflow takes" in message for message in messages)
    assert any("metric 'note' is dropped" in message for message in messages)


@pytest.mark.process
def test_two_runs_at_once_and_one_more(store: MlflowClient, place: Path) -> None:
    """On two buses, into two stores, each with its own samples and its own end."""
    (place / "other").mkdir()
    other_uri = new_database(place / "other")
    one, other = Bus("one"), Bus("other")
    first = trackside.start("x", bus=one)
    second = trackside.start("x", tracking_uri=other_uri, bus=other)
    for step in range(10):
        one.emit(MetricsSample(step, metrics={"loss": 0.5}))
        other.emit(MetricsSample(step, metrics={"gain": 0.5}))
    first.finish("FAILED")
    with trackside.start("x", bus=one) as third:
        assert third.run_id not in {first.run_id, None}
    second.finish()
    clients = (store, MlflowClient(other_uri), store)
    statuses = []
    for client, run, names in zip(clients, (first, second, third), (["loss"], ["gain"], []), strict=True):
        assert run.run_id is not None
        found = client.get_run(run.run_id)
        statuses.append(found.info.status)
        assert list(found.data.metrics) == names
    assert statuses == ["FAILED", "FINISHED", "FINISHED"]
    assert len(store.get_metric_history(first.run_id or "", "loss")) == 10
    until(lambda: not [*(place / "journals").iterdir()])


@pytest.mark.process
def test_resuming_with_checkpoints(
    store: MlflowClient, place: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A run that did not finish is resumed. A finished one gets a successor, and the log says which.

    Without ``step=`` a resumed run counts on from its last step, and a new run begins at 0.
    """
    caplog.set_level(logging.INFO, logger="trackside")
    ids, said = [], []
    attempts: list[tuple[bool, FinalStatus]]
    attempts = [(True, "FAILED"), (True, "FINISHED"), (True, "FAILED"), (False, "FINISHED")]
    for resume, status in attempts:
        caplog.clear()
        run = trackside.start("x", checkpoint_dir=place / "checkpoints", resume=resume, bus=Bus(), wait=True)
        for _ in range(2):
            run.bus.emit(MetricsSample(None, metrics={"loss": 0.5}))
        run.finish(status)
        ids.append(run.run_id or "")
        said.append(caplog.text)
        assert (place / "checkpoints" / "mlflow_run_id").read_text() == run.run_id
    assert ids[0] == ids[1]
    assert len(set(ids)) == 3
    steps = [[metric.step for metric in store.get_metric_history(run_id, "loss")] for run_id in ids]
    assert steps[1:] == [[0, 1, 2, 3], [0, 1], [0, 1]]
    assert store.get_run(ids[0]).info.status == "FINISHED"
    assert f"resuming run {ids[0]} " in said[1]
    assert re.search(r"INFO .* which ended as FAILED at \d{4}-[-: \d]* UTC, last step 1\n", said[1])
    assert re.search(
        rf"WARNING .* starting a new run: .* names run {ids[0]}, which ended as FINISHED", said[2]
    )
    assert 'last step 3. To add to a finished run, pass resume="always"' in said[2]
    assert "run_id" not in said[0] + said[3]
    assert "redone" not in "".join(said)


@pytest.mark.process
def test_the_environments_run_and_experiment(store: MlflowClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """``MLFLOW_RUN_ID`` is taken up again by the first run. The next one is made by the experiment's id."""
    experiment = store.create_experiment("by id")
    given = store.create_run(experiment).info.run_id
    store.set_terminated(given, "FAILED")
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", experiment)
    monkeypatch.setenv("MLFLOW_RUN_ID", given)
    with trackside.start(resume=False, bus=Bus()) as first:
        assert first.run_id == given
        assert store.get_run(given).info.status == "RUNNING"
    with trackside.start(bus=Bus()) as second:
        assert second.run_id not in {given, None}
    assert store.get_run(given).info.status == "FINISHED"
    assert store.get_run(second.run_id or "").info.experiment_id == experiment


ACTIVATED = """
import mlflow, trackside
run = trackside.start("x").activate()
assert mlflow.active_run().info.run_id == run.run_id
mlflow.log_param("by_mlflow", 1)
mlflow.log_text("text", "note.txt")
trackside.log({"loss": 0.5}, step=1)
raise ValueError("boom")
"""


@pytest.mark.process
def test_a_crash_of_an_activated_run(store: MlflowClient, place: Path) -> None:
    """MLflow's own exit hook would call it FINISHED. It has not the last word."""
    done = run_python("-c", ACTIVATED)
    assert done.returncode == 1
    assert "ValueError: boom" in done.stderr
    run = wait_until_settled(store.tracking_uri, place / "journals")
    assert run is not None
    assert run.info.status == "FAILED", done.stderr
    assert run.data.tags["trackside.end.reason"] == "ValueError: boom"
    assert run.data.params == {"by_mlflow": "1"}
    assert run.data.metrics == {"loss": 0.5}
    names = [artifact.path for artifact in store.list_artifacts(run.info.run_id)]
    assert sorted(names) == ["note.txt", "traceback.txt"]


def test_a_sweep_leaks_no_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand runs in one process must not come near the limit of open files."""
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    counts = []
    gc.disable()  # what only the collector would close is a leak, too
    try:
        for _ in range(5):
            run = trackside.start("sweep")
            trackside.log({"loss": 1.0}, step=0)
            run.finish()
            counts.append(psutil.Process().num_fds())
    finally:
        gc.enable()
    assert counts[-1] == counts[1]
