"""The trainer's handle on its shipper: started apart, watched, replaced."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
import warnings
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.support.pipes import read_bytes
from trackside.journal.cursor import Cursor, save_cursor
from trackside.journal.directory import JournalDirectory, create_directory
from trackside.journal.files import write_atomically
from trackside.journal.meta import State
from trackside.journal.reader import Position
from trackside.session import shipper_handle as process_
from trackside.session.replacements import MAX_RESTARTS, MAX_TRIES, REST
from trackside.session.shipper_handle import (
    LOCKED_PAUSE,
    SILENT,
    YOUNG,
    ShipperProcess,
)
from trackside.shipper.environment import Renewal
from trackside.shipper.protocol import DONE, LEFT, LOCKED, NUDGE, READY, SEEN, Line
from trackside.shipper.spawn import EXIT_NOT_PYTHON, spawn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "http://user:hunter2@mlflow:5000"


class Started:
    """Stands in for a process. ``returncode`` is None while it lives."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        return self.returncode


@pytest.fixture
def journal(tmp_path: Path) -> JournalDirectory:
    """An empty journal."""
    made = create_directory(tmp_path / "journals", "x")
    made.meta.write_text("{}")
    return made


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Started]:
    """The processes that were started, none of them real."""
    made: list[Started] = []

    def fake(command: list[str], **options: Any) -> Started:
        made.append(Started(1000 + len(made)))
        return made[-1]

    monkeypatch.setattr(process_, "spawn", fake)
    return made


@pytest.fixture
def shipper(journal: JournalDirectory) -> Iterator[ShipperProcess]:
    """A handle. Nothing is started yet."""
    made = ShipperProcess(journal, tracking_uri=SECRET, working_directory="/")
    yield made
    made.pipe.close()
    made.hang_up()


def publish(journal: JournalDirectory, **fields: Any) -> None:
    """Say something as the shipper would."""
    write_atomically(journal.state, msgspec.json.encode(State(pid=1, **fields)))


def shipper_end(shipper: ShipperProcess) -> Line:
    """The shipper's end of the channel."""
    channel = shipper._conversation._channel
    assert channel is not None
    return Line(os.dup(channel.shipper_end))


def say(shipper: ShipperProcess, word: bytes) -> None:
    """Say ``word`` as the shipper would, by its end of the channel."""
    line = shipper_end(shipper)
    assert line.send(word)
    line.close()


# A real process

LOOK_AROUND = """
import json, os, sys
print(json.dumps({
    "session": os.getsid(0) == os.getpid(),
    "directory": os.getcwd(),
    "stdin": sys.stdin.read(),
    "uri": os.environ["TRACKSIDE_SHIPPER_TRACKING_URI"],
    "python": sorted(name for name in os.environ if name.startswith("PYTHON")),
    "arguments": open("/proc/self/cmdline").read() if os.path.exists("/proc/self/cmdline") else "",
}))
print("and an error", file=sys.stderr)
"""


def test_it_is_started_apart(journal: JournalDirectory, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a session of its own, with its output in the log, and credentials in its environment only."""
    for name in [name for name in os.environ if name.startswith("PYTHON")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PYTHONPATH", "/users/own")
    monkeypatch.setenv("PYTHONWARNINGS", "error")
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    child = spawn(
        [sys.executable, "-c", LOOK_AROUND],
        log=journal.log,
        tracking_uri=SECRET,
        working_directory=str(journal.path),
    )
    assert child.wait(60) == 0
    line, error = sorted(journal.log.read_text().splitlines(), reverse=True)
    seen = msgspec.json.decode(line)
    assert error == "and an error"
    assert "hunter2" not in seen.pop("arguments")
    assert seen == {
        "session": True,
        "directory": str(journal.path),
        "stdin": "",
        "uri": SECRET,
        "python": ["PYTHONDONTWRITEBYTECODE"],
    }
    assert journal.log.stat().st_mode & 0o777 == 0o600


def test_a_working_directory_that_is_gone(journal: JournalDirectory) -> None:
    """``trackside sync`` on another machine: it runs where it is."""
    command = [sys.executable, "-c", "pass"]
    child = spawn(command, log=journal.log, tracking_uri="", working_directory="/no/such/directory")
    assert child.wait(60) == 0


def test_a_shipper_may_outlive_the_run_object(journal: JournalDirectory) -> None:
    """It is meant to continue: that is no ResourceWarning."""
    command = [sys.executable, "-c", "import signal; signal.pause()"]
    child = spawn(command, log=journal.log, tracking_uri="", working_directory="/")
    number = child.pid
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del child
        gc.collect()
    os.kill(number, signal.SIGKILL)
    assert [warning for warning in caught if str(number) in str(warning.message)] == []


# The handle


def test_start_names_the_journal_and_the_pipe(
    journal: JournalDirectory, shipper: ShipperProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address goes by the environment, since any user can read a command line."""
    calls: list[tuple[list[str], dict[str, Any]]] = []

    def fake(command: list[str], **options: Any) -> Started:
        calls.append((command, options))
        return Started(7)

    monkeypatch.setattr(process_, "spawn", fake)
    assert shipper.pid is None
    assert shipper.start()
    ((command, options),) = calls
    pipe, channel = options["pass_fds"]
    assert pipe == shipper.pipe.read_end
    assert command[3:] == [str(journal.path), "--pipe", str(pipe), "--channel", str(channel)]
    assert (command[0], command[1]) == (sys.executable, "-c")
    assert options["tracking_uri"] == SECRET
    assert shipper.pid == 7


def test_no_process_to_be_had_is_one_warning(
    shipper: ShipperProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Training continues, and ``trackside sync`` is named."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("too many processes")

    monkeypatch.setattr(process_, "spawn", fail)
    assert not shipper.start()
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "could not be started (too many processes)" in record.getMessage()
    assert "trackside sync" in record.getMessage()
    assert not shipper.is_running()
    assert shipper.wait_for(lambda _: True, 10.0) is None, "there is nothing to wait for"


@pytest.mark.parametrize(
    ("returncode", "phase", "replaced"),
    [
        (None, "shipping", False),
        (-9, "shipping", True),
        (1, None, True),
        (4, "stopped", True),
        (3, "refused", False),
        (0, "done", False),
        (0, "shipping", True),
        (0, None, True),
    ],
)
def test_only_a_shipper_that_died_too_early_is_replaced(  # noqa: PLR0917 - the fixtures come on top
    journal: JournalDirectory, shipper: ShipperProcess, started: list[Started], returncode, phase, replaced
) -> None:
    """Not one that says it is done, nor one whose server refused. Exit code 0 says nothing.

    ``Popen`` reports 0 for a child that other code has waited for.
    """
    shipper.start()
    started[0].returncode = returncode
    if phase is not None:
        publish(journal, phase=phase)
    shipper.ensure_running()
    assert len(started) == 1 + replaced
    assert shipper.restarts == replaced


def test_a_shipper_that_dies_each_time_is_not_replaced_for_ever(
    shipper: ShipperProcess, started: list[Started], caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever kills it would kill the next one too. One warning names ``trackside sync``."""
    shipper.start()
    for _ in range(MAX_RESTARTS + 5):
        say(shipper, READY)
        started[-1].returncode = -11
        shipper.ensure_running()
    assert len(started) == 1 + MAX_RESTARTS
    (given_up,) = [record.getMessage() for record in caplog.records if "in a row" in record.getMessage()]
    assert "signal 11" in given_up
    assert "trackside sync" in given_up


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The time in its one element."""
    now = [1000.0]
    for module in ("shipper_handle", "replacements"):
        monkeypatch.setattr(f"trackside.session.{module}.steady", lambda: now[0])
    return now


@pytest.mark.parametrize("ready", [True, False])
def test_after_a_rest_another_is_tried(
    shipper: ShipperProcess,
    started: list[Started],
    clock: list[float],
    caplog: pytest.LogCaptureFixture,
    ready: bool,
) -> None:
    """What killed them may be over. If it is not, one dies every few minutes, without another word."""
    shipper.start()

    def die() -> None:
        if ready:
            say(shipper, READY)
        started[-1].returncode = -9
        shipper.ensure_running()

    for _ in range(MAX_RESTARTS + 5):
        die()
    assert shipper.is_over()
    before = len(started)
    for number in range(1, 4):
        clock[0] += REST / 2
        shipper.ensure_running()
        assert shipper.is_over()
        clock[0] += REST / 2
        shipper.ensure_running()
        assert (len(started), shipper.is_over()) == (before + number, False)
        die()
        assert shipper.is_over()
    assert caplog.text.count("trackside sync") == 1
    clock[0] += REST
    shipper.ensure_running()
    say(shipper, READY)
    clock[0] += YOUNG + 1  # the fourth lives, and then others may die again
    for _ in range(2):
        die()
        assert not shipper.is_over()


def test_a_shipper_that_can_not_be_started_is_tried_three_times(
    journal: JournalDirectory,
    shipper: ShipperProcess,
    started: list[Started],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One warning, with the last line of its log as the cause, and what to do."""
    journal.log.write_text("the line of an older one\n")
    shipper.start()
    for _ in range(10):
        with journal.log.open("a") as log:
            log.write("Traceback\nModuleNotFoundError: No module named 'mlflow'\n\n")
        started[-1].returncode = 1
        shipper.ensure_running()
    assert len(started) == MAX_TRIES
    (record,) = caplog.records
    assert "started 3 times" in record.getMessage()
    assert "(ModuleNotFoundError: No module named 'mlflow')" in record.getMessage()
    assert "trackside sync" in record.getMessage()
    assert shipper.wait_for(lambda _: True, 60.0) is None, "no shipper will ever answer"
    shipper.start()
    assert started[-1].returncode is None


def test_a_program_that_trains_instead_is_started_once(
    shipper: ShipperProcess, started: list[Started], caplog: pytest.LogCaptureFixture
) -> None:
    """It would train again each time."""
    shipper.start()
    started[0].returncode = EXIT_NOT_PYTHON
    shipper.ensure_running()
    assert len(started) == 1
    assert "TRACKSIDE_PYTHON" in caplog.text


def test_a_shipper_that_says_nothing_is_ended(
    shipper: ShipperProcess, started: list[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some other program runs in its place. It goes with all of its process group."""
    now, killed = 0.0, []
    monkeypatch.setattr("trackside.session.shipper_handle.steady", lambda: now)
    monkeypatch.setattr(os, "killpg", lambda *arguments: killed.append(arguments))
    shipper.start()
    now = SILENT - 1
    shipper.ensure_running()
    assert killed == []
    now = SILENT + 1
    shipper.ensure_running()
    assert killed == [(started[0].pid, signal.SIGKILL)]
    say(shipper, READY)
    shipper.ensure_running()
    assert len(killed) == 1, "one that is at work is left alone, however long it takes"


def test_its_word_is_proof_of_delivery(
    journal: JournalDirectory, shipper: ShipperProcess, started: list[Started]
) -> None:
    """It comes before the journal goes, so a trainer that was held up for seconds still hears it."""
    shipper.start()
    assert not shipper.is_done()
    say(shipper, DONE)
    journal.meta.unlink(missing_ok=True)
    started[0].returncode = 0
    assert shipper.is_done()
    assert not shipper.is_removed()
    shipper.ensure_running()
    assert len(started) == 1


def test_what_it_leaves_on_disk_is_proof_of_delivery(
    journal: JournalDirectory, shipper: ShipperProcess, started: list[Started]
) -> None:
    """With every way to it closed, and a disk that was too full for its last state."""
    shipper.start()
    shipper.hang_up()
    journal.mark_delivered()
    started[0].returncode = -9
    assert shipper.is_done()
    assert not shipper.is_removed()
    shipper.ensure_running()
    assert len(started) == 1


def test_a_removed_journal_gets_no_new_shipper(
    journal: JournalDirectory,
    shipper: ShipperProcess,
    started: list[Started],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """That is said once while a shipper lives, and once when it has died."""
    shipper.start()
    assert not shipper.warn_if_removed()
    journal.remove()
    assert shipper.warn_if_removed()
    assert shipper.warn_if_removed()
    started[0].returncode = -9
    shipper.ensure_running()
    shipper.ensure_running()
    assert shipper.warn_if_removed()
    assert len(started) == 1
    assert [record.getMessage().split()[2] for record in caplog.records] == [str(journal.path)] * 2
    assert "lost" in caplog.records[1].getMessage()


def test_a_locked_journal_is_tried_again_after_a_while(
    shipper: ShipperProcess, started: list[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another shipper is at work on it. That is no failure, whatever the exit code."""
    now = 0.0
    monkeypatch.setattr("trackside.session.shipper_handle.steady", lambda: now)
    shipper.start()
    for _ in range(MAX_TRIES + 2):
        say(shipper, LOCKED)
        started[-1].returncode = 0
        shipper.ensure_running()
        before = len(started)
        now += LOCKED_PAUSE + 1
        shipper.ensure_running()
        assert len(started) == before + 1
    assert shipper.gave_up is None


def test_changed_variables_are_passed_on_once(
    shipper: ShipperProcess, started: list[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renewed, new and removed ones, and the address, when only its credentials are other ones."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "first")
    monkeypatch.setenv("OLD_PROXY", "http://old")
    shipper.start()
    line = shipper_end(shipper)
    shipper.pass_on_environment()
    assert line.receive() == []
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "second")
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.delenv("OLD_PROXY")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://user:swordfish@mlflow:5000")
    shipper.pass_on_environment()
    shipper.pass_on_environment()
    (message,) = line.receive()
    renewal = msgspec.json.decode(message, type=Renewal)
    assert renewal.variables == {"MLFLOW_TRACKING_TOKEN": "second", "OLD_PROXY": None}
    assert renewal.tracking_uri == "http://user:swordfish@mlflow:5000"
    line.close()


def test_a_new_shipper_gets_no_old_message(
    shipper: ShipperProcess, started: list[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is started with the variables of now. What waited for the dead one may be older."""
    shipper.start()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "second")
    shipper.pass_on_environment()
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "third")
    started[0].returncode = -9
    shipper.ensure_running()
    shipper.pass_on_environment()
    line = shipper_end(shipper)
    assert (len(started), line.receive()) == (2, [])
    line.close()


def test_a_shipper_that_delivers_before_it_dies_is_replaced_for_ever(
    journal: JournalDirectory, shipper: ShipperProcess, started: list[Started]
) -> None:
    """A training of weeks outlives any number of them, as long as each was of use."""
    shipper.start()
    for delivered in range(1, 3 * MAX_RESTARTS):
        say(shipper, READY)
        save_cursor(journal.cursor("mlflow"), Cursor(Position(seq=delivered)))
        started[-1].returncode = -9
        shipper.ensure_running()
    assert len(started) == 3 * MAX_RESTARTS


def test_a_shipper_that_has_lived_for_a_while_is_replaced_for_ever(
    shipper: ShipperProcess, started: list[Started], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server may be away for days, so that none of them delivers anything."""
    now = 0.0
    monkeypatch.setattr("trackside.session.shipper_handle.steady", lambda: now)
    shipper.start()
    for _ in range(3 * MAX_RESTARTS):
        say(shipper, READY)
        now += YOUNG + 1
        started[-1].returncode = -9
        shipper.ensure_running()
    assert len(started) == 1 + 3 * MAX_RESTARTS


def test_waiting_for_a_state(
    journal: JournalDirectory, shipper: ShipperProcess, started: list[Started]
) -> None:
    """The first that fits. None when the time is up. A dead one's last word counts."""
    shipper.start()
    assert shipper.wait_for(lambda _: True, 0.0) is None
    publish(journal, phase="shipping")
    assert shipper.wait_for(lambda state: state.phase == "done", 0.0) is None
    publish(journal, phase="done")
    started[0].returncode = 0
    state = shipper.wait_for(lambda state: state.phase == "done", 60.0)
    assert state is not None
    assert shipper.wait_for(lambda state: state.phase == "never", 60.0) is None, "it has left for good"
    assert len(started) == 1


def test_waiting_replaces_a_dead_shipper(
    journal: JournalDirectory, shipper: ShipperProcess, started: list[Started]
) -> None:
    """At the end of a training there is no emit any more that would notice."""
    shipper.start()
    started[0].returncode = -9

    def condition(state: State) -> bool:
        return len(started) == 2

    publish(journal, phase="shipping")
    assert shipper.wait_for(condition, 60.0) is not None


def test_notices_are_logged_once_each(shipper: ShipperProcess, caplog: pytest.LogCaptureFixture) -> None:
    """What the shipper wants the user to know."""
    shipper.log_notices(None)
    shipper.log_notices(State(pid=1, notices=["one"]))
    shipper.log_notices(State(pid=1, notices=["one", "two %s"]))
    assert [record.getMessage() for record in caplog.records] == ["one", "two %s"]


def test_nudging_and_dismissing(shipper: ShipperProcess) -> None:
    """One byte each, through the pipe."""
    shipper.nudge()
    shipper.dismiss()
    assert read_bytes(shipper.pipe.read_end) == bytes((NUDGE, SEEN))


def test_leaving_is_not_dismissing(shipper: ShipperProcess) -> None:
    """What becomes of the run is to be read later."""
    shipper.leave(hang_up=False)
    assert shipper.is_left
    assert read_bytes(shipper.pipe.read_end) == bytes((LEFT,))


def test_abandoned_it_is_forgotten(shipper: ShipperProcess, started: list[Started]) -> None:
    """In a forked child: it is the parent's, and the child must not reap, nudge or replace it."""
    shipper.start()
    started[0].returncode = -9
    shipper.abandon()
    shipper.ensure_running()
    shipper.nudge()
    assert shipper.pid is None
    assert len(started) == 1
