"""Shippers forked from one process that imports MLflow once: as isolated as those started from scratch."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.support.journals import make
from trackside.journal import lossless_json
from trackside.journal.directory import JournalDirectory, create_directory
from trackside.shipper import fork_server, forked
from trackside.shipper.forked import ForkedShipper, ForkServer
from trackside.shipper.inventory import journals_in
from trackside.shipper.protocol import EXIT_LOCKED, LOST, MOST, ShipperRequest
from trackside.shipper.spawn import command_for
from trackside.shipper.sync import sync_all
from trackside.shipper.sync_progress import SyncProgress
from trackside.system.descriptors import OwnDescriptor

if TYPE_CHECKING:
    from pathlib import Path

# Four runs of one program, offline: the first has a destination that kills whoever loads it, the third was
# made in a folder of its own and writes to a file beside it.
OFFLINE = """
import os
import trackside

def run(name, **options):
    with trackside.start("x", run_name=name, config={"lr": 0.1}, **options):
        for step in range(20):
            trackside.log({"loss": 0.5}, step=step)

run("a", destinations=["deadly:Destination"])
run("b")
os.mkdir("elsewhere")
os.chdir("elsewhere")
run("c", destinations=[{"type": "jsonl", "path": "metrics.jsonl"}])
os.chdir("..")
run("d")
"""


def wait(shipper: ForkedShipper | subprocess.Popen[bytes]) -> int:
    """Its exit code."""
    deadline = time.monotonic() + 60
    while (code := shipper.poll()) is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert code is not None
    return code


def start(server: ForkServer, journal: JournalDirectory) -> ForkedShipper | subprocess.Popen[bytes]:
    """A shipper for it."""
    return server.start(
        command_for(journal), log=journal.log, tracking_uri="http://nowhere", working_directory="/"
    )


def test_one_process_delivers_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In order, each in its own folder and log. A shipper that dies stops none of the others."""
    uri = new_database(tmp_path)
    (tmp_path / "deadly.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    subprocess.run([sys.executable, "-c", OFFLINE], check=True, timeout=60, cwd=tmp_path)
    found = sorted(journals_in(tmp_path / "journals"), key=lambda journal: journal.name.split("-")[1])
    servers: list[int] = []
    begin = ForkServer._begin

    def counted(server: ForkServer) -> None:
        servers.append(1)
        begin(server)

    monkeypatch.setattr(ForkServer, "_begin", counted)
    monkeypatch.setattr(forked, "spawn", None)  # nothing is started from scratch
    seen: list[tuple[str, SyncProgress]] = []
    results = list(
        sync_all(
            found,
            on_progress=lambda journal, progress: seen.append((journal.name, progress)),
            importable=["deadly:Destination"],
        )
    )

    assert servers == [1]
    assert [one.result for one in results] == ["unfinished", "delivered", "delivered", "delivered"]
    assert [journal.path.exists() for journal in found] == [True, False, False, False]
    assert seen[-1] == (found[-1].name, SyncProgress(20, 20))
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("x")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], order_by=["attributes.start_time ASC"])
    delivered = {run.info.run_name: run.info.status for run in runs}
    assert {name: delivered[name] for name in "bcd"} == dict.fromkeys("bcd", "FINISHED")
    assert len((tmp_path / "elsewhere" / "metrics.jsonl").read_text().splitlines()) >= 20


def test_a_server_that_dies_takes_no_shipper_with_it(tmp_path: Path) -> None:
    """The shipper under way continues, and is watched. Another server starts the next, a few times."""
    journal = make(tmp_path, points=2, tracking_uri="http://127.0.0.1:9")  # a server that never answers
    empty = create_directory(tmp_path, "empty")  # has no meta.json: a shipper leaves at once
    with ForkServer() as server:
        first = start(server, journal)
        assert isinstance(first, ForkedShipper)
        assert first.pid is not None
        deadline = time.monotonic() + 60
        while os.getsid(first.pid) != first.pid:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        for _ in range(forked.MAX_DEATHS):
            assert wait(start(server, empty)) == EXIT_LOCKED
            assert server._server is not None
            server._server.kill()
            server._server.wait(timeout=30)
        assert first.poll() is None
        from_scratch = start(server, empty)
        assert isinstance(from_scratch, subprocess.Popen)
        assert wait(from_scratch) == EXIT_LOCKED
        os.kill(first.pid, signal.SIGKILL)
        assert wait(first) == LOST
    assert "another shipper has, or has delivered" in empty.log.read_text()


def test_terminate_reaches_the_shipper_alone(tmp_path: Path) -> None:
    """And its end by a signal is told as Popen tells it. The server then forks the next one."""
    journal = make(tmp_path, points=2, tracking_uri="http://127.0.0.1:9")  # a server that never answers
    empty = create_directory(tmp_path, "empty")
    with ForkServer() as server:
        first = start(server, journal)
        assert isinstance(first, ForkedShipper)
        assert first.pid is not None
        os.kill(first.pid, signal.SIGKILL)
        assert wait(first) == -signal.SIGKILL
        first.terminate()  # of one that has left: nothing
        assert wait(start(server, empty)) == EXIT_LOCKED
        server_process = server._server
    assert server_process is not None
    assert server_process.wait(timeout=30) == 0, "it leaves with its client"


def test_what_was_not_started_is_lost_with_its_server(tmp_path: Path) -> None:
    """It is not waited for without end. Its client starts another."""
    server = ForkServer(waits=False)
    empty = create_directory(tmp_path, "empty")
    shipper = start(server, empty)
    assert server._server is not None
    server._server.kill()  # it still imports
    server._server.wait(timeout=30)
    assert wait(shipper) in {LOST, EXIT_LOCKED}
    assert wait(start(server, empty)) == EXIT_LOCKED
    server.close()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nothing else tells of zombies")
def test_a_shipper_that_dies_without_its_server_is_lost_before_it_is_reaped() -> None:
    """Process 1 of many containers waits for none of its dead children."""
    client = ForkServer(waits=False)
    shipper = ForkedShipper(client, 1)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as orphan:
        shipper.note_start(orphan.pid)
        shipper.note_loss()
        assert shipper.poll() is None
        orphan.kill()
        os.waitid(os.P_PID, orphan.pid, os.WEXITED | os.WNOWAIT)
        assert shipper.poll() == LOST


@pytest.mark.process
def test_shippers_wait_for_their_turn_and_none_is_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is not over gets one though all places are taken, and so do the rest while none leaves."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path))
    silent = [make(tmp_path, points=2, tracking_uri="http://127.0.0.1:9") for _ in range(fork_server.AT_ONCE)]
    empty = create_directory(tmp_path, "empty")
    server = ForkServer(waits=False)
    shippers = [start(server, journal) for journal in silent]
    late, goes_on = start(server, empty), start(server, empty)
    assert isinstance(late, ForkedShipper)
    late.leave(hung_up=True)
    assert wait(goes_on) == EXIT_LOCKED
    assert wait(late) == EXIT_LOCKED
    for shipper in shippers:
        assert isinstance(shipper, ForkedShipper)
        assert shipper.pid is not None
        os.kill(shipper.pid, signal.SIGKILL)
    server.close()


@pytest.mark.parametrize(("over", "after"), [(False, fork_server.PATIENCE), (True, fork_server.STUCK)])
def test_how_long_a_shipper_waits_while_none_leaves(
    monkeypatch: pytest.MonkeyPatch,
    over: bool,
    after: float,
) -> None:
    """A run that is over waits longer. Then one of them starts, and the next one waits again."""
    now = 1000.0
    monkeypatch.setattr("trackside.shipper.fork_server.time", SimpleNamespace(monotonic=lambda: now))
    waiting = [
        fork_server.Waiting(ShipperRequest(number, [], (), "log", "/", {}), {}, over=over)
        for number in range(2)
    ]
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        server = fork_server.Server(ours)
        server.running = dict.fromkeys(range(fork_server.AT_ONCE), 0)
        for one in waiting:
            one.since = now
        server.waiting.extend(waiting)
        now += after - 0.1
        assert list(server.due()) == []
        now += 0.2
        first = next(iter(server.due()))
        assert first is waiting[0]
        server.note_start(first, 99)
        assert list(server.due()) == ([] if over else waiting[1:])


def test_what_was_asked_for_is_started_after_the_client_has_gone(tmp_path: Path) -> None:
    """A training that is killed leaves a queue, and the server works it off."""
    empties = [create_directory(tmp_path, f"empty-{number}") for number in range(3)]
    server = ForkServer(waits=False)
    for empty in empties:
        start(server, empty)
    process = server._server
    assert process is not None
    server._let_go()
    assert process.wait(timeout=60) == 0
    deadline = time.monotonic() + 60
    while not all(empty.log.exists() and empty.log.read_text() for empty in empties):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def request(number: int) -> bytes:
    """For a shipper without descriptors."""
    return lossless_json.encode(ShipperRequest(number, ["/nowhere"], (), "/nowhere/log", "/", {}))


def test_the_client_hears_of_a_run_that_gets_no_shipper(monkeypatch: pytest.MonkeyPatch) -> None:
    """Because as many as may run at once do so for long. One that is over waits without a word."""
    monkeypatch.setattr(fork_server, "PATIENCE", 0.0)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setblocking(False)
    server = fork_server.Server(theirs)
    server.running = {-number: number for number in range(1, MOST + 1)}
    monkeypatch.setattr(server, "_reap", lambda: None)
    client = ForkServer(waits=False)
    client._line = OwnDescriptor(ours.detach())
    shippers = [ForkedShipper(client, number) for number in (MOST + 1, MOST + 2)]
    for shipper in shippers:
        client._shippers[shipper.number] = shipper
        client._send(request(shipper.number), [])
    shippers[1].leave(hung_up=True)
    server.turn()
    for _ in range(3):
        assert list(server.due()) == []
    assert [shipper.is_held_up for shipper in shippers] == [True, False]
    del server.running[-1]
    (waiting,) = server.due()
    server.note_start(waiting, os.getpid())
    assert not shippers[0].is_held_up
    assert shippers[0].pid == os.getpid()
    client._let_go()
    theirs.close()
