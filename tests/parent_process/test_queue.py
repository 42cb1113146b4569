"""Shippers that wait for their turn when the command ends: they are waited for as long as they may come."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.journals import make
from trackside.parent_process import delivery
from trackside.parent_process.delivery import Deliveries
from trackside.shipper.forked import ForkServer
from trackside.system import parent_folder
from trackside.system.parent_folder import (
    has_fork_server,
    register_fork_server,
    register_journal,
)
from trackside.system.processes import start_ticks

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.process, pytest.mark.outside]


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A shipper that has not locked its journal by now is late."""
    monkeypatch.setattr(delivery, "BOOT_PATIENCE", 0.0)


def dead_pid() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_queued_shipper_is_waited_for_while_its_fork_server_lives(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long the queue is. Once the server is dead, that shipper will not start."""
    trainer, journal = dead_pid(), make(tmp_path / "journals", points=2)
    server = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: trainer)
        register_journal(folder, str(journal.path))
        patch.setattr(parent_folder, "start_ticks", lambda pid: None if pid == trainer else start_ticks(pid))
        register_fork_server(folder, server.pid)
    deliveries = Deliveries(folder)
    assert [one.journal for one in deliveries.pending()] == [str(journal.path)]
    server.communicate(timeout=60)
    assert deliveries.pending() == []
    assert [one.journal for one in deliveries.left()] == [str(journal.path)]


def test_what_a_killed_training_has_not_read_is_not_waited_for(
    folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The journal is delivered."""
    monkeypatch.setattr(delivery, "BOOT_PATIENCE", 1000.0)
    trainer, journal = dead_pid(), make(tmp_path / "journals", points=2)
    with monkeypatch.context() as patch:
        patch.setattr(os, "getpid", lambda: trainer)
        patch.setattr(parent_folder, "start_ticks", lambda _: None)
        register_journal(folder, str(journal.path))
    deliveries = Deliveries(folder)
    assert deliveries.pending()
    journal.mark_delivered()
    assert deliveries.pending() == []
    assert deliveries.left() == []


@pytest.mark.skipif(sys.platform == "darwin", reason="shippers are not forked there")
def test_a_training_tells_of_its_fork_server(folder: str) -> None:
    """Before the server has work, so that the parent knows of it whenever the training dies."""
    server = ForkServer(waits=False)
    assert not has_fork_server(folder, os.getpid())
    server._begin()
    assert has_fork_server(folder, os.getpid())
    assert not has_fork_server(folder, 1)
    process = server._server
    assert process is not None
    process.kill()
    process.wait(60)
    assert not has_fork_server(folder, os.getpid())
    server.close()
