"""The run is opened while the training goes on: what is known of it, when, and what is said. A stub ships."""

from __future__ import annotations

import logging
import pickle
import signal
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import trackside
from tests.parts import journal_of, parts_of, records_of
from tests.shipper.stub import StubShipper
from trackside.destinations.mlflow.findings import Finding
from trackside.errors import ConfigurationError, TrackingError
from trackside.event_bus.bus import Bus
from trackside.journal.delivery_status import DeliveryStatus, status_in
from trackside.journal.meta import RunInfo, State, WorkerState
from trackside.session import assembly, delivery
from trackside.session import opening as opening_
from trackside.session import shipper_handle as process_
from trackside.session.further_shippers import further_shippers
from trackside.session.last_words import HELD_UP
from trackside.system.once import Once

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.session.run import Run

REASON = "experiment 'x' is deleted: restore it"
REFUSED = {"phase": "refused", "error": REASON, "workers": {"mlflow": WorkerState(refused=REASON)}}
ABC = RunInfo("abc", "7", "/artifacts", "http://mlflow:5000/#/experiments/7/runs/abc", name="r")


class Opener(StubShipper):
    """Says nothing at first, and what a test has it say later."""

    def __init__(self) -> None:
        super().__init__()
        self.cursor = self.state = None

    def report(self, **state: Any) -> None:
        """Publish this state."""
        self.state = state
        self.speak()


@pytest.fixture
def opener(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Opener:
    """A shipper that has not opened the run. The end of the run waits for nothing."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_EXIT_TIMEOUT", "0")
    monkeypatch.setenv("TRACKSIDE_START_TIMEOUT", "60")
    monkeypatch.delenv("TRACKSIDE_QUIET", raising=False)
    monkeypatch.chdir(tmp_path)
    made = Opener()
    monkeypatch.setattr(process_, "spawn", made)
    monkeypatch.setattr(further_shippers, "start", made)
    monkeypatch.setattr(assembly, "begin_check", lambda _: Finding)
    return made


@pytest.fixture
def run(opener: Opener) -> Iterator[Run]:
    """A run that is not open yet."""
    assert opener.state is None
    with trackside.start("x", tracking_uri="http://mlflow:5000", bus=Bus()) as started:
        yield started


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged since the last call."""
    found = [record.getMessage() for record in caplog.records]
    caplog.clear()
    return found


def look(run: Run) -> None:
    """What a log does every second while the run is not open."""
    parts_of(run).watch()


def test_start_waits_for_nothing(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """What is logged is kept, and nothing is said while there is nothing to say."""
    run.log({"loss": 0.5}, step=0)
    look(run)
    assert run.delivery == DeliveryStatus("opening")
    assert str(run.delivery) == "opening"
    assert "no id yet" in repr(run)
    assert len(records_of(run)) == 2
    assert said(caplog) == []


def test_an_open_run_is_told_of_once(run: Run, opener: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """By whoever looks first, with the page to look at."""
    caplog.set_level(logging.INFO)
    opener.report(phase="shipping", run=ABC)
    for _ in range(3):
        look(run)
    (line,) = said(caplog)
    assert line.startswith("logging run r")
    assert "runs/abc" in line
    assert (run.run_id, run.delivery) == ("abc", DeliveryStatus("open"))


def test_a_run_that_ends_before_it_is_known_says_so_once(
    opener: Opener, caplog: pytest.LogCaptureFixture
) -> None:
    """One line with its page, not two."""
    caplog.set_level(logging.INFO)
    with trackside.start("x", tracking_uri="http://mlflow:5000", bus=Bus()):
        opener.report(phase="done", run=ABC, status="FINISHED")
    lines = [line for line in said(caplog) if "run r" in line]
    assert len(lines) == 1
    assert "logging" not in lines[0]


def test_a_refusal_is_one_error(run: Run, opener: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """The log says why, where everything is kept and what to do; the training goes on."""
    opener.report(**REFUSED)
    for step in range(3):
        look(run)
        run.log({"loss": 0.5}, step=step)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    for part in (REASON, "http://mlflow:5000", str(journal_of(run).path), "sync --tracking-uri"):
        assert part in record.getMessage()
    assert run.delivery == DeliveryStatus("failed", REASON)
    assert str(run.delivery) == f"failed: {REASON}"
    assert len(records_of(run)) == 4


def test_a_refusal_is_raised_where_the_id_is_needed(run: Run, opener: Opener) -> None:
    """The error that ``start(wait=True)`` would have raised. The address and the rest raise nothing."""
    opener.report(**REFUSED)
    for _ in range(2):
        with pytest.raises(TrackingError, match=f"^MLflow at http://mlflow:5000 refused the run: {REASON}"):
            assert run.run_id
    with pytest.raises(TrackingError, match="refused the run"):
        run.activate()
    assert run.url == "http://mlflow:5000"
    assert "no id yet" in repr(run)


def test_a_refusal_at_the_very_end_is_told_too(opener: Opener, caplog: pytest.LogCaptureFixture) -> None:
    """A program that is over before the run is: the same error, and no second report of what is missing."""
    with trackside.start("x", bus=Bus()) as run:
        opener.report(**REFUSED)
    (record,) = [record for record in caplog.records if record.name.startswith("trackside")]
    assert (record.levelno, run.status) == (logging.ERROR, "FINISHED")
    assert REASON in record.getMessage()
    assert run.run_id is None, "nothing is waited for, and nothing raises, after the end"


def test_start_raises_a_refusal_where_it_waits(opener: Opener, tmp_path: Path) -> None:
    """And leaves nothing behind. The variable does the same, unless the argument says otherwise."""
    opener.state = REFUSED
    with pytest.raises(TrackingError, match=REASON):
        trackside.start("x", bus=Bus(), wait=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRACKSIDE_START_WAIT", "on")
        with pytest.raises(TrackingError, match=REASON):
            trackside.start("x", bus=Bus())
        trackside.start("x", bus=Bus(), wait=False).finish()
    assert len([*(tmp_path / "journals").iterdir()]) == 1


@pytest.mark.parametrize("wait", [1, "yes", 15.0])
def test_wait_is_a_switch(wait: Any) -> None:
    """Seconds have a variable of their own."""
    with pytest.raises(ConfigurationError, match="TRACKSIDE_START_TIMEOUT sets the seconds"):
        trackside.start("x", wait=wait)


def test_what_the_first_check_refuses_starts_no_shipper(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same words as MLflow's refusal, at once, and nothing is left."""
    monkeypatch.setattr(assembly, "begin_check", lambda _: lambda: Finding(REASON))
    with pytest.raises(TrackingError, match=f"refused the run: {REASON}"):
        trackside.start("x", bus=Bus())
    assert not opener.started
    assert not any((tmp_path / "journals").glob("*"))


def test_trouble_at_the_first_check_is_one_warning(
    opener: Opener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, and not again when the timeout is over."""
    monkeypatch.setattr(assembly, "begin_check", lambda _: lambda: Finding(trouble="connection refused"))
    monkeypatch.setenv("TRACKSIDE_START_TIMEOUT", "0")
    run = trackside.start("x", tracking_uri="http://mlflow:5000", bus=Bus())
    (line,) = said(caplog)
    assert line.startswith("MLflow at http://mlflow:5000 does not answer (connection refused). Your training")
    opener.report(phase="retrying", error="connection refused")
    look(run)
    assert (run.run_id, said(caplog)) == (None, [])
    assert run.delivery == DeliveryStatus("opening", "connection refused")
    run.finish()


def test_silence_is_one_warning_after_the_timeout(
    opener: Opener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log says so when the time is over, not the start."""
    monkeypatch.setenv("TRACKSIDE_START_TIMEOUT", "0")
    run = trackside.start("x", bus=Bus())
    assert said(caplog) == []
    for _ in range(2):
        look(run)
    (line,) = said(caplog)
    assert "has not opened the run yet (no answer in 0 s)" in line
    assert opener.started
    run.finish()


def test_a_run_that_gets_no_shipper_for_now_says_so(
    opener: Opener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As many others are at work as may. One warning for the process, and the truth wherever you ask."""
    monkeypatch.setenv("TRACKSIDE_START_TIMEOUT", "0.1")
    monkeypatch.setattr(delivery, "_told", Once())
    first, held_up = trackside.start("x", bus=Bus()), trackside.start("x", bus=Bus())
    monkeypatch.setattr(type(parts_of(held_up).shipper), "is_held_up", property(lambda _: True))
    assert held_up.delivery == DeliveryStatus("opening", HELD_UP)
    said(caplog)
    for run in (held_up, first, held_up):
        assert not run.flush(0.05)
    lines = [line for line in said(caplog) if "is None" in line]
    assert len(lines) == 1
    assert HELD_UP in lines[0]
    assert str(journal_of(held_up).path) in lines[0]
    assert held_up.run_id is None
    (line,) = said(caplog)
    assert f"has not opened the run yet ({HELD_UP})" in line
    assert opener.started
    for run in (first, held_up):
        run.finish()


def test_threads_that_ask_for_the_id_wait_together(
    run: Run, opener: Opener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of them get it, and the timeout is waited out once at most."""
    found: list[str | None] = []
    threads = [threading.Thread(target=lambda: found.append(run.run_id)) for _ in range(4)]
    for thread in threads:
        thread.start()
    opener.report(phase="shipping", run=ABC)
    for thread in threads:
        thread.join(60)
    assert found == ["abc"] * 4


def test_a_run_of_another_process_waits_for_the_id_too(run: Run, opener: Opener) -> None:
    """A pickle may be older than the id. Looking at it waits for nothing."""
    handle = pickle.loads(pickle.dumps(run))
    assert "no id yet" in repr(handle)
    assert handle.delivery == DeliveryStatus("opening")
    found: list[str | None] = []
    thread = threading.Thread(target=lambda: found.append(handle.run_id))
    thread.start()
    opener.report(phase="shipping", run=ABC)
    thread.join(60)
    assert found == ["abc"]
    journal_of(run).state.unlink()
    assert handle.run_id == "abc", "it is kept"


def test_the_timeout_is_waited_out_once(opener: Opener, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later questions are answered at once, with what is known by then."""
    monkeypatch.setenv("TRACKSIDE_START_TIMEOUT", "5")
    now = [1000.0]
    for module in (opening_, process_):
        monkeypatch.setattr(module, "steady", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda seconds: now.__setitem__(0, now[0] + seconds))
    run = trackside.start("x", bus=Bus())
    assert run.run_id is None
    assert now[0] == pytest.approx(1005, abs=0.1)
    assert (run.run_id, run.url) == (None, "http://127.0.0.1:5000")
    assert now[0] == pytest.approx(1005, abs=0.1)
    opener.report(phase="shipping", run=ABC)
    assert run.run_id == "abc"
    run.finish()


def test_a_signal_handler_may_ask(run: Run, opener: Opener) -> None:
    """Even one that interrupts the thread that waits."""
    found: list[str | None] = []

    def answer(*_: object) -> None:
        opener.report(phase="shipping", run=ABC)
        found.append(run.run_id)

    before = signal.signal(signal.SIGALRM, answer)
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    try:
        assert run.run_id == "abc"
    finally:
        signal.signal(signal.SIGALRM, before)
    assert found == ["abc"]


def test_a_resumed_run_without_steps_waits_for_the_last_one(
    opener: Opener, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only MLflow knows it, and steps that begin anew would mix with those there are."""
    (tmp_path / "mlflow_run_id").write_text("a" * 32)
    opener.state = {"phase": "shipping", "run": RunInfo("a" * 32, "7", "/", None, resumed=True, last_step=41)}
    with trackside.start("x", checkpoint_dir=tmp_path, bus=Bus()) as run:
        run.log({"loss": 0.5})
    assert [getattr(record, "step", None) for record in records_of(run)] == [None, 42, None]


@pytest.mark.parametrize(
    ("state", "status"),
    [
        (None, DeliveryStatus("opening")),
        (State(1), DeliveryStatus("opening")),
        (State(1, "retrying", error="no"), DeliveryStatus("opening", "no")),
        (State(1, "retrying", ABC, error="no"), DeliveryStatus("open", "no")),
        (
            State(1, "refused", ABC, error="the run is deleted"),
            DeliveryStatus("failed", "the run is deleted"),
        ),
        (State(1, workers={"mlflow": WorkerState(refused="no")}), DeliveryStatus("failed", "no")),
        (State(1, "done", ABC), DeliveryStatus("delivered")),
    ],
    ids=str,
)
def test_what_the_shipper_says_and_what_it_means(state: State | None, status: DeliveryStatus) -> None:
    """For a run whose first destination is MLflow."""
    assert status_in(state) == status


def test_a_rank_without_mlflow_is_open_once_its_shipper_works() -> None:
    """It has no run to open."""
    assert status_in(State(1), mlflow=False) == DeliveryStatus("opening")
    assert status_in(State(1, "shipping"), mlflow=False) == DeliveryStatus("open")


def test_the_end_is_patient_with_what_only_waits(run: Run) -> None:
    """A child whose parent has no id yet, and a server that is down, are told apart."""
    run.log({"loss": 0.5}, step=0)
    delivery = parts_of(run).delivery
    delivery.begin_end()
    for waits in (True, False):
        worker = WorkerState(error="waiting until the parent has a run id", waits=waits)
        _, failing = delivery.progress(State(1, workers={"mlflow": worker}))
        assert failing is not waits
