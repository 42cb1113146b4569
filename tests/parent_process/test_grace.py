"""The wait for delivery after the command's end, and what is said of the rest."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.ends.container import COMMAND, can_make_container
from tests.parent_process.family import TRAIN, Family, eventually, is_gone, line_of
from tests.support.recorder import HOLD, only_run

if TYPE_CHECKING:
    import subprocess

pytestmark = pytest.mark.process

KILLED = TRAIN + "os.kill(os.getpid(), 9)"


@pytest.fixture
def held(family: Family) -> Family:
    """A family whose shippers deliver nothing until the hold is removed."""
    (family.records / HOLD).touch()
    return family


def release(held: Family) -> None:
    """Let the shippers deliver, and wait for them."""
    (held.records / HOLD).unlink()
    eventually(lambda: not list(held.journals.iterdir()), "not delivered")


def test_what_is_left_is_told(held: Family) -> None:
    """After the grace: which journal, and how it is delivered. The shipper works on."""
    process = held.python(KILLED, options=("--grace", "1s"))
    _, errors = process.communicate(timeout=120)
    (journal,) = held.journals.iterdir()
    assert process.returncode == -9
    assert (
        f"trackside: 1 run not delivered yet: {journal}. Its shipper continues in the background." in errors
    )
    assert f"run `trackside sync --dir {held.journals}`" in errors
    release(held)
    assert only_run(held.records).reason == "died without a word (SIGKILL)"


def test_no_grace(held: Family) -> None:
    """``--grace 0`` waits for nothing."""
    process = held.python(KILLED, options=("--grace", "0"))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -9
    assert "not delivered yet" in errors
    release(held)


def waiting(held: Family, text: str = KILLED, **how: str) -> subprocess.Popen[str]:
    """A parent that waits for delivery, and has said so."""
    process = held.python(text, options=("--grace", "10m"), env={"TRACKSIDE_QUIET": "off", **how})
    assert process.stderr is not None
    assert process.stderr.readline() == (
        "trackside: waiting up to 600 s for 1 run to be delivered. Ctrl-C ends the wait\n"
    )
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_wait(held: Family, number: int) -> None:
    """The exit is still that of the command."""
    process = waiting(held)
    os.killpg(process.pid, number)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -9
    assert "not delivered yet" in errors
    release(held)


def test_the_wait_holds_no_pipe_open(held: Family) -> None:
    """``trackside run ... | tee log``: the output ends with the command, as without a parent."""
    process = waiting(held)
    assert process.stdout is not None
    assert process.stdout.read() == "ready\n"
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    release(held)


def test_a_shipper_that_is_gone_is_not_waited_for(held: Family) -> None:
    """If it was killed, what it has left is told at once."""
    process = waiting(held)
    (journal,) = held.journals.iterdir()
    shippers = [p for p in psutil.process_iter(["cmdline"]) if str(journal) in (p.info["cmdline"] or ())]
    assert shippers
    for shipper in shippers:
        shipper.kill()
    _, errors = process.communicate(timeout=120)
    assert process.returncode == -9
    assert f"not delivered yet: {journal}. To see why" in errors


def test_a_training_in_the_background_is_not_waited_for(family: Family) -> None:
    """It may train for days. Its shipper works as long as it does."""
    train = family.script(TRAIN + "print(os.getpid(), flush=True); time.sleep(600)")
    read = f'"{sys.executable}" "$0" < /dev/null & read -r _; exit 2'
    process = family.start("sh", "-c", read, train, options=("--grace", "10m"))
    assert line_of(process) == "ready"
    training = int(line_of(process))
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()
    assert process.wait(timeout=120) == 2
    assert not is_gone(training)
    os.kill(training, signal.SIGKILL)
    eventually(lambda: not list(family.journals.iterdir()), "not delivered")


@pytest.mark.skipif(not can_make_container(), reason="may not make a process namespace here")
def test_what_is_left_in_a_container(held: Family) -> None:
    """The shipper ends with process 1, and the message says so."""
    process = held.python(KILLED, options=("--grace", "1s"), before=COMMAND)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 137
    assert "Its shipper ends with this container." in errors
