"""Crash notes: how rank 0's shipper learns what happened on another rank."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from trackside.lifecycle.crash import crash_event
from trackside.lifecycle.crash_notes import LATEST_MS, expect_notes, forget_notes, notes_directory, read_notes
from trackside.lifecycle.exit_code import load_library
from trackside.lifecycle.peer_crash import CrashNoteHook

if TYPE_CHECKING:
    from trackside.lifecycle.evidence import RankCrash

BOOM = ValueError("boom")

needs_on_exit = pytest.mark.skipif(load_library() is None, reason="no on_exit in this C library")


@pytest.fixture
def printed(monkeypatch: pytest.MonkeyPatch) -> list[BaseException]:
    """What got to the excepthook below ours."""
    errors: list[BaseException] = []
    monkeypatch.setattr(sys, "excepthook", lambda _kind, error, _trace: errors.append(error))
    return errors


def raise_uncaught(error: BaseException) -> None:
    """Do with ``error`` what the interpreter does at the end."""
    sys.excepthook(type(error), error, None)


@pytest.mark.wheel
def test_a_crash_is_noted_and_still_printed(tmp_path: Path, printed: list[BaseException]) -> None:
    """Rank 0's side finds rank, type, message and time. The previous hook runs."""
    hook = CrashNoteHook(tmp_path, "job", 3)
    hook.install()
    raise_uncaught(BOOM)
    hook.uninstall()
    (note,) = read_notes(tmp_path, "job", since_ms=0)
    assert (note.rank, note.event.error_type, note.event.message) == (3, "ValueError", "boom")
    assert printed == [BOOM]
    assert read_notes(tmp_path, "another job", since_ms=0) == []
    assert read_notes(tmp_path, None, since_ms=0) == []


def test_only_crashes_of_this_run_count(tmp_path: Path, printed: list[BaseException]) -> None:
    """A note from before the run began is of an earlier attempt. The earliest of the others comes first."""
    for rank in (2, 1):
        hook = CrashNoteHook(tmp_path, "job", rank)
        hook.note(crash_event("crashed", ValueError, BOOM, None))
    notes = read_notes(tmp_path, "job", since_ms=0)
    assert sorted(note.rank for note in notes) == [1, 2]
    times = [note.event.timestamp_ms for note in notes]
    assert times == sorted(times)
    assert read_notes(tmp_path, "job", since_ms=times[-1] + 1) == []


def test_uninstalling_restores_and_silences(tmp_path: Path, printed: list[BaseException]) -> None:
    """The hook before is back. One that stays buried under another notes nothing any more."""
    before = sys.excepthook
    hook = CrashNoteHook(tmp_path, "job", 1)
    hook.install()
    hook.uninstall()
    assert sys.excepthook is before
    buried = CrashNoteHook(tmp_path, "job", 1)
    buried.install()
    below = sys.excepthook
    sys.excepthook = lambda *arguments: below(*arguments)  # noqa: PLW0108 - the user's own, on top
    buried.uninstall()
    raise_uncaught(BOOM)
    assert printed == [BOOM]
    assert read_notes(tmp_path, "job", since_ms=0) == []


def test_the_hook_goes_with_the_exception_that_passed_the_end(printed: list[BaseException]) -> None:
    """A rank that handles it continues without our hook, which stays as long as the exception is kept."""
    before = sys.excepthook
    hook = CrashNoteHook(Path(), "job", 1)
    hook.install()
    kept: list[BaseException] = []
    try:
        int("no number")
    except ValueError as error:
        kept.append(error)
        hook.finish()
    assert sys.excepthook is not before
    kept.clear()
    gc.collect()
    assert sys.excepthook is before


def test_a_note_that_cannot_be_left_hides_nothing(tmp_path: Path, printed: list[BaseException]) -> None:
    """The exception is printed all the same."""
    notes_directory(tmp_path, "job").parent.write_text("in the way")
    hook = CrashNoteHook(tmp_path, "job", 1)
    hook.install()
    raise_uncaught(BOOM)
    hook.uninstall()
    assert printed == [BOOM]


def test_forgetting_removes_what_is_empty(tmp_path: Path) -> None:
    """The notes go with the run. Other jobs' and other journals stay."""
    root = tmp_path / "journals"
    for job in ("one", "two"):
        CrashNoteHook(root, job, 1).note(crash_event("crashed", ValueError, BOOM, None))
    forget_notes(root, "one", since_ms=0)
    assert not notes_directory(root, "one").exists()
    assert len(read_notes(root, "two", since_ms=0)) == 1
    forget_notes(root, None, since_ms=0)
    forget_notes(root, "two", since_ms=0)
    assert not root.exists()


def test_jobs_one_after_the_other_keep_their_notes_apart(tmp_path: Path) -> None:
    """Same ids, same address: a later job's notes are not read, nor an earlier one's deleted."""
    CrashNoteHook(tmp_path, "job", 1).note(crash_event("crashed", ValueError, BOOM, None))
    (note,) = read_notes(tmp_path, "job", since_ms=0, died_ms=0)
    assert read_notes(tmp_path, "job", since_ms=0, died_ms=note.event.timestamp_ms - 1000) == [note]
    assert read_notes(tmp_path, "job", since_ms=0, died_ms=note.event.timestamp_ms - LATEST_MS - 1) == []
    forget_notes(tmp_path, "job", since_ms=note.event.timestamp_ms + 60_000)
    assert read_notes(tmp_path, "job", since_ms=0) == [note]
    path = notes_directory(tmp_path, "job") / "rank-1.json"
    os.utime(path, (0, 0))
    forget_notes(tmp_path, "job", since_ms=note.event.timestamp_ms + 60_000)
    assert not path.exists()


EXITING = """
import os, pathlib, sys
from trackside.lifecycle.crash_notes import expect_notes
from trackside.lifecycle.peer_crash import CrashNoteHook
root = pathlib.Path(sys.argv[1])
hook = CrashNoteHook(root, "job", 2)
hook.install()
{script}
"""


def left_by(root: Path, script: str) -> list[RankCrash]:
    """The notes that a process leaves in which ``script`` runs on rank 2."""
    subprocess.run([sys.executable, "-c", EXITING.format(script=script), str(root)], check=False)
    return read_notes(root, "job", since_ms=0)


@needs_on_exit
@pytest.mark.parametrize(
    ("script", "messages"),
    [
        ("raise SystemExit(3)", ["exit code 3"]),
        ("sys.exit('no data')", ["exit code 1"]),
        ("sys.exit(0)", []),
        ("try:\n    sys.exit(3)\nexcept SystemExit:\n    pass", []),
        ("hook.finish()\nsys.exit(3)", []),
        ("try:\n    sys.exit(3)\nfinally:\n    hook.finish()", ["exit code 3"]),
        ("try:\n    1 / 0\nexcept Exception:\n    hook.finish()\nsys.exit(3)", []),
        ("if os.fork() == 0:\n    sys.exit(3)\nos.wait()", []),
    ],
)
def test_an_exit_code_is_noted(tmp_path: Path, script: str, messages: list[str]) -> None:
    """One that is not 0, of the process itself, unless the program had said that it is done."""
    expect_notes(tmp_path, "job")
    notes = left_by(tmp_path, script)
    assert [note.event.message for note in notes] == messages
    assert all((note.rank, note.event.error_type) == (2, "SystemExit") for note in notes)


@needs_on_exit
def test_an_exception_is_noted_before_its_exit_code(tmp_path: Path) -> None:
    """It says more, and is the cause. Also when it passed a ``finish()``."""
    expect_notes(tmp_path, "job")
    notes = left_by(tmp_path, "try:\n    1 / 0\nfinally:\n    hook.finish()")
    assert [note.event.error_type for note in notes] == ["ZeroDivisionError"]


def test_no_exit_code_is_left_where_nobody_reads_it(tmp_path: Path) -> None:
    """Rank 0's run has ended, or has not begun: no directory, no file."""
    assert left_by(tmp_path / "journals", "sys.exit(3)") == []
    assert not (tmp_path / "journals").exists()


def test_a_damaged_note_is_passed_over(tmp_path: Path) -> None:
    """Half a file of a rank that died while it wrote."""
    CrashNoteHook(tmp_path, "job", 1).note(crash_event("crashed", ValueError, BOOM, None))
    (notes_directory(tmp_path, "job") / "rank-2.json").write_text('{"rank": 2')
    assert [note.rank for note in read_notes(tmp_path, "job", since_ms=0)] == [1]
