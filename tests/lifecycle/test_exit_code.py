"""The exit code, noted by the C library after Python is gone: real processes, all ways out."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trackside.lifecycle import exit_code
from trackside.lifecycle.exit_code import ExitCodeNote, read_exit_code

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = """
import atexit, os, signal, sys, threading
from pathlib import Path
from trackside.lifecycle.exit_code import ExitCodeNote, read_exit_code
one, two = (Path(name) for name in sys.argv[1:])
note = ExitCodeNote.write_to(one)
"""

pytestmark = pytest.mark.skipif(exit_code.load_library() is None, reason="no on_exit in this C library")


def play(script: str, directory: Path) -> tuple[int, int | None, int | None]:
    """Its exit code, as the parent sees it and as it was noted in either file."""
    files = [directory / "one", directory / "two"]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT + script, *map(str, files)],
        capture_output=True,
        timeout=60,
        check=False,
    )
    return done.returncode, *(read_exit_code(path) for path in files)  # type: ignore[return-value]


@pytest.mark.parametrize(
    ("script", "code", "noted"),
    [
        ("", 0, 0),
        ("sys.exit(0)", 0, 0),
        ("sys.exit(7)", 7, 7),
        ("sys.exit(-1)", 255, 255),
        ("sys.exit('text')", 1, 1),
        ("raise SystemExit(3)", 3, 3),
        ("raise ValueError", 1, 1),
        ("try:\n    sys.exit(1)\nexcept SystemExit:\n    pass", 0, 0),
        ("threading.Thread(target=sys.exit, args=(1,)).start()", 0, 0),
        ("atexit.register(lambda: 1 / 0)", 0, 0),
        ("os._exit(4)", 4, None),
        ("os.abort()", -6, None),
        ("os.kill(os.getpid(), signal.SIGKILL)", -9, None),
        ("os.kill(os.getpid(), signal.SIGTERM)", -15, None),
        ("raise KeyboardInterrupt", -2, None),
        ("os.execv(sys.executable, [sys.executable, '-c', 'raise SystemExit(5)'])", 5, None),
    ],
)
def test_every_way_out(script: str, code: int, noted: int | None, tmp_path: Path) -> None:
    """Python's own exits are noted, whichever they are. Deaths and ``os._exit`` are not, which tells too."""
    assert play(script, tmp_path) == (code, noted, None)


def test_a_child_notes_nothing(tmp_path: Path) -> None:
    """Only the parent's exit code counts."""
    script = """
if os.fork() == 0:
    ExitCodeNote.abandon_all()
    sys.exit(9)
os.wait()
sys.exit(2)
"""
    assert play(script, tmp_path) == (2, 2, None)


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_child_that_a_library_forked_leaves_no_code(when: str, tmp_path: Path) -> None:
    """It runs the exit functions it inherited, before our exit or after. No Python code learns of it."""
    script = f"""
import ctypes, time
library = ctypes.CDLL(None)
read, write = os.pipe()
child = library.fork()
if child == 0:
    os.read(read, 1)
    library.exit(7)
def let_it_go():
    os.write(write, b"x")
    os.waitpid(child, 0)
if {when!r} == "before":
    let_it_go()
    assert read_exit_code(one) == 7
else:
    atexit.register(let_it_go)
atexit.register(note.renew)
sys.exit(2)
"""
    assert play(script, tmp_path) == (2, 2, None)


@pytest.mark.wheel
def test_runs_one_after_another_and_two_at_once(tmp_path: Path) -> None:
    """A released note is reused, and writes to the second file only. Two at once write to both."""
    again = "note.stop()\nassert ExitCodeNote.write_to(two) is note\nsys.exit(3)"
    assert play(again, tmp_path) == (3, None, 3)
    both = "assert ExitCodeNote.write_to(two) is not note\nsys.exit(4)"
    assert play(both, tmp_path) == (4, 4, 4)


def test_nothing_is_noted_where_the_system_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a library without ``on_exit`` nor one that refuses is an error."""
    monkeypatch.setattr(exit_code, "load_library", lambda: None)
    assert ExitCodeNote.write_to(tmp_path / "one") is None
    assert not (tmp_path / "one").exists()


def test_a_release_without_memory_to_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``finish()`` in a process that has run out of memory raises nothing."""
    note = ExitCodeNote.write_to(tmp_path / "one")
    assert note is not None

    def fail(*_: object, **__: object) -> None:
        raise OSError("cannot allocate memory")

    with monkeypatch.context() as patch:
        patch.setattr(note, "point_at_nothing", fail)
        note.stop()
        assert note not in ExitCodeNote._spare
    note.stop()
    assert note in ExitCodeNote._spare
