"""A program that closes descriptors which are not its own, as daemons do, and opens files of its own."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.hostile.odd_program import play
from trackside.system import descriptors
from trackside.system.descriptors import OwnDescriptor, identity_of

if TYPE_CHECKING:
    from pathlib import Path

CLOSE_AND_OPEN = """
os.closerange(3, {last})
users = [os.open(f"users-{{number}}", os.O_RDWR | os.O_CREAT) for number in range(40)]
if {last} > 600:  # in place of ours as well
    users += [os.dup2(users[0], number) for number in range(512, 600)]
"""

STILL_OPEN = """
for descriptor in users:
    os.fstat(descriptor)
os.kill(os.getpid(), signal.SIGUSR1)
"""

DYING = """
os.kill(run._assembly.shipper.pid, signal.SIGKILL)
while run._assembly.shipper.is_running():
    time.sleep(0.01)
trackside.log({"loss": 0.5}, step=50)
assert run.flush(60)
assert run._assembly.shipper.restarts == 1
"""


def users_bytes(folder: Path) -> dict[str, bytes]:
    """What is in the user's files that are not empty."""
    files = {path.name: path.read_bytes() for path in folder.glob("users-*")}
    assert len(files) == 40
    return {name: data for name, data in files.items() if data}


@pytest.mark.parametrize("last", [256, 4096])
def test_the_program_closes_everything(tmp_path: Path, last: int) -> None:
    """All points arrive. Nothing is written to the user's files, and none of them is closed."""
    usr1 = "signal.signal(signal.SIGUSR1, lambda *_: None)"
    then = "\nrun._assembly.watch()\nos.kill(os.getpid(), signal.SIGUSR1)"
    during = CLOSE_AND_OPEN.format(last=last) + then
    played = play(tmp_path, before=usr1, during=during, after=STILL_OPEN + "\nsys.exit(5)")
    assert (played.code, played.said) == (5, "")
    assert sorted(played.steps) == list(range(50))
    assert users_bytes(tmp_path) == {}


def test_a_forked_child_closes_everything(tmp_path: Path) -> None:
    """Its exit code, and the wakeup bytes of its signals, are not in its files."""
    child = "if os.fork() == 0:\n" + CLOSE_AND_OPEN.format(last=4096).replace("\n", "\n    ")
    child += "\n    signal.signal(signal.SIGUSR1, lambda *_: None)"
    child += STILL_OPEN.replace("\n", "\n    ") + "\n    sys.exit(7)\n"
    child += "assert os.waitstatus_to_exitcode(os.wait()[1]) == 7"
    played = play(tmp_path, during=child)
    assert (played.code, played.said) == (0, "")
    assert sorted(played.steps) == list(range(50))
    assert users_bytes(tmp_path) == {}


def test_a_shipper_dies_once_all_is_closed(tmp_path: Path) -> None:
    """Another one is started, over a pipe and a channel of its own."""
    during = CLOSE_AND_OPEN.format(last=4096)
    during += DYING
    played = play(tmp_path, during=during, after=STILL_OPEN.replace("SIGUSR1", "SIGWINCH"))
    assert played.code == 0, played.said
    assert sorted(set(played.steps)) == list(range(51))
    assert users_bytes(tmp_path) == {}


def test_an_own_descriptor_knows_its_file(tmp_path: Path) -> None:
    """It is numbered high. Once another file has its number, it neither uses nor closes it."""
    own = OwnDescriptor(os.open(tmp_path / "ours", os.O_RDWR | os.O_CREAT))
    number = own.fileno()
    assert number >= descriptors.HIGH
    other = os.open(tmp_path / "users", os.O_RDWR | os.O_CREAT)
    os.dup2(other, number)
    try:
        assert own.fileno() == -1
        own.close()
        assert identity_of(number) == identity_of(other)
    finally:
        os.close(number)
        os.close(other)
