"""The exit of a process waits for the shipper, but never for long."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from trackside.lifecycle.exit_code import load_library
from trackside.lifecycle.exit_hold import ExitHold, in_container

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.skipif(load_library() is None, reason="no on_exit in this C library")

# The child that is forked stands for the shipper.
SCRIPT = """
import os, signal, sys, time
from pathlib import Path
from trackside.lifecycle.exit_code import ExitCodeNote, read_exit_code
from trackside.lifecycle.exit_hold import ExitHold, let_go
path, seen = Path(sys.argv[1]), Path(sys.argv[2])
note, hold = ExitCodeNote.write_to(path), ExitHold()
descriptor = os.dup(hold.shipper_end)
if os.fork() == 0:
    {shipper}
    os._exit(0)
os.close(descriptor)
{before}
if hold.arm({timeout}):
    note.note_before()
    Path(str(seen) + ".armed").touch()
else:
    print("not armed")
raise SystemExit(3)
"""
ACTING = """
    while read_exit_code(path) is None:
        time.sleep(0.01)
    seen.write_text(str(read_exit_code(path)))
    let_go(descriptor)
"""


DYING = """
    while not Path(str(seen) + ".armed").exists():
        time.sleep(0.01)
"""


def play(directory: Path, shipper: str, *, timeout: float, before: str = "") -> tuple[int, float, str]:
    """The exit code, seconds from start to end, and what was said."""
    script = SCRIPT.format(shipper=shipper.strip(), timeout=timeout, before=before)
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", script, str(directory / "code"), str(directory / "seen")],
        stdout=subprocess.PIPE,
        text=True,
        timeout=100,
        check=False,
    )
    return done.returncode, time.monotonic() - began, done.stdout


@pytest.mark.parametrize("stays", [False, True])
def test_the_shipper_acts_on_the_exit_code_before_the_process_ends(stays: bool, tmp_path: Path) -> None:
    """It lets go by closing its end. Another forked child that has that end, too, does not matter."""
    before = "if os.fork() == 0:\n    os.close(1)\n    time.sleep(60)\n    os._exit(0)" if stays else ""
    code, seconds, said = play(tmp_path, ACTING, timeout=60, before=before)
    assert (code, said) == (3, "")
    assert (tmp_path / "seen").read_text() == "3"
    assert seconds < 55


def test_it_waits_for_a_while_only(tmp_path: Path) -> None:
    """A shipper that does nothing holds up the exit for as long as it was armed, and changes nothing."""
    code, seconds, said = play(tmp_path, "os.close(1)\n    time.sleep(60)", timeout=0.75)
    assert (code, said) == (3, "")
    assert 0.75 < seconds < 50


def test_a_dead_shipper_holds_up_nothing(tmp_path: Path) -> None:
    """The write fails, and the exit code is what it was."""
    code, seconds, said = play(tmp_path, DYING, timeout=60)
    assert (code, said) == (3, "")
    assert seconds < 50


def test_a_process_that_sigpipe_would_kill_does_not_wait(tmp_path: Path) -> None:
    """With the default action set, as command-line tools do, a dead shipper would change how it dies."""
    before = "signal.signal(signal.SIGPIPE, signal.SIG_DFL)"
    assert play(tmp_path, "", timeout=60, before=before)[::2] == (3, "not armed\n")


def test_only_in_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere the shipper outlives the process, and the exit has no reason to wait."""
    for link, pid, expected in (
        ("pid:[4026531836]", 5, False),
        ("pid:[7]", 5, True),
        ("pid:[4026531836]", 1, True),
    ):
        monkeypatch.setattr(os, "readlink", lambda _path, link=link: link)
        monkeypatch.setattr(os, "getpid", lambda pid=pid: pid)
        assert in_container() is expected
        hold = ExitHold.if_needed()
        assert (hold is not None) is expected
        if hold is not None:
            hold.close()
