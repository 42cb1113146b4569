"""A training starts and is delivered wherever it runs, or is told what to change."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.ends.container import can_make_container
from tests.hostile.odd_program import PROGRAM, Played, play
from trackside import settings
from trackside.errors import ConfigurationError
from trackside.journal import lossless_json, owner
from trackside.journal.directory import comes_and_goes
from trackside.journal.owner import has_ended, is_alive, this_process
from trackside.session.plan import make_target
from trackside.settings import read_environment
from trackside.system.processes import is_there

if TYPE_CHECKING:
    from pathlib import Path

LATIN_1 = b"caf\xe9"


def assert_delivered(played: Played) -> None:
    """All points arrived, and nothing was said."""
    assert (played.code, played.said) == (0, "")
    assert sorted(played.steps) == list(range(50))


PRINTING = """
for number in (0, 1, *([] if sys.stderr else [2])):
    try:
        os.write(number, b"printed")
    except OSError:
        pass
"""


@pytest.mark.parametrize("closed", ["<&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_descriptors(tmp_path: Path, closed: str) -> None:
    """What is opened next gets their numbers, and what the program prints must not end up in there."""
    command = ("sh", "-c", f'exec "$0" "$@" {closed}')
    assert_delivered(play(tmp_path, command=command, during=PRINTING))


def test_no_executable(tmp_path: Path) -> None:
    """An application that embeds Python need not know one."""
    assert_delivered(play(tmp_path, before="sys.executable = None"))


REMOVED = "os.mkdir('gone'); os.chdir('gone'); os.rmdir('../gone')"


def test_the_working_folder_was_removed(tmp_path: Path) -> None:
    """With absolute paths, that matters to nothing."""
    assert_delivered(play(tmp_path, before=REMOVED))


def test_a_relative_path_in_a_folder_that_was_removed(tmp_path: Path) -> None:
    """It leads nowhere, which the error says."""
    played = play(tmp_path, before=REMOVED, TRACKSIDE_DIR="journals")
    assert (played.code, played.steps) == (3, [])
    assert "ConfigurationError: the working folder was removed, so TRACKSIDE_DIR='journals'" in played.said


@pytest.mark.parametrize("inside", [False, True], ids=["journals elsewhere", "journals in it"])
def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path, inside: bool) -> None:
    """Journals may lie in it, and what changes in the environment may be as odd."""
    folder = os.fsencode(tmp_path) + b"/" + LATIN_1
    os.mkdir(folder)
    during = f"os.environb[b'SOME_TOKEN'] = {LATIN_1!r}\nrun._assembly.watch()"
    journals = "journals" if inside else str(tmp_path / "journals")
    assert_delivered(play(tmp_path, cwd=folder, during=during, TRACKSIDE_DIR=journals))
    assert not (os.path.exists(folder + b"/journals") and os.listdir(folder + b"/journals"))


def test_mlflow_can_use_no_path_that_is_not_utf_8(tmp_path: Path) -> None:
    """So ``start()`` refuses it. MLflow's own error would come later, and name no path."""
    uri = f"sqlite:///{tmp_path}/{os.fsdecode(LATIN_1)}/mlflow.db"
    with pytest.raises(ConfigurationError, match="which is not UTF-8"):
        make_target(
            read_environment({}),
            experiment_name="x",
            run_name=None,
            tracking_uri=uri,
            artifact_location=None,
            tags={},
            resume=True,
            checkpoint_dir=None,
        )


SUBINTERPRETER = f"""
try:
    import _xxsubinterpreters as interpreters
    made = interpreters.create(isolated=False)
    interpreters.run_string(made, {PROGRAM!r})
except ImportError:
    import _interpreters as interpreters
    error = interpreters.exec(interpreters.create("legacy"), {PROGRAM!r})
    assert error is None, error
"""


def test_a_subinterpreter(tmp_path: Path) -> None:
    """It gets no signals, and everything else works."""
    assert_delivered(play(tmp_path, program=SUBINTERPRETER))


WITHOUT_PROC = ("unshare", "--mount", "sh", "-c", 'mount -t tmpfs none /proc && exec "$0" "$@"')
PROC_OF_OTHERS = ("unshare", "--pid", "--fork", "sh", "-c", '"$0" "$@"; exit $?')


HIDE_PROC = """
import os, sys

def hide(event, arguments):
    if event in ("open", "os.listdir", "os.scandir"):
        refuse_proc(arguments[0])

def refuse_proc(path):
    if isinstance(path, (str, bytes)) and os.fsdecode(path).startswith("/proc"):
        raise FileNotFoundError(2, os.strerror(2), path)

def links(path, *, readlink=os.readlink, **more):
    if path == "/proc/self" and {self!r}:
        return {self!r}
    refuse_proc(path)
    return readlink(path, **more)

def stats(path, *, stat=os.stat, **more):
    refuse_proc(path)
    return stat(path, **more)

os.readlink, os.stat = links, stats
sys.addaudithook(hide)
"""
"""For where no namespace may be made: nothing of ``/proc`` can be read, and ``self`` is somebody else."""


def play_hidden(folder: Path, self: str, during: str) -> Played:
    """Run the program. Neither it nor its shipper sees a ``/proc``."""
    hide = HIDE_PROC.format(self=self)
    interpreter = folder / "python"
    interpreter.write_text(
        f"#!{sys.executable}\n{hide}\ncode = sys.argv[2]\nsys.argv = ['-c', *sys.argv[3:]]\nexec(code)\n"
    )
    interpreter.chmod(0o755)
    return play(folder, before=hide, during=during, TRACKSIDE_PYTHON=str(interpreter))


@pytest.mark.parametrize("command", [WITHOUT_PROC, PROC_OF_OTHERS], ids=["none", "another namespace's"])
def test_proc(tmp_path: Path, command: tuple[str, ...]) -> None:
    """The trainer's process can't be looked up. It is watched all the same, and its end is noticed."""
    during = "from trackside.journal.owner import can_look_up\nassert not can_look_up()\ntime.sleep(2)"
    if can_make_container():
        assert_delivered(play(tmp_path, command=command, during=during))
    else:
        self = "" if command is WITHOUT_PROC else "1"
        assert_delivered(play_hidden(tmp_path, self, during))


def test_a_process_that_cannot_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for by its number alone. Two machines whose boots are unknown are not taken for one."""
    known = this_process()
    monkeypatch.setattr(owner, "can_look_up", lambda: False)
    monkeypatch.setattr(owner, "boot_id", lambda: f"{owner.UNKNOWN_BOOT} here")
    ours = this_process()
    assert is_alive(ours)
    assert not is_alive(msgspec.structs.replace(ours, pid=2**22 + 1))
    assert not has_ended(ours, silent_for=1e9)
    assert not has_ended(known, silent_for=0), "it is not known whether the machine was started anew"
    assert is_there(1)


def test_the_usual_folder_is_somebody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder that two users share, the second one's journals have a folder of their own."""
    monkeypatch.chdir(tmp_path)
    usual = read_environment({}).directory
    assert usual.name == settings.DEFAULT_DIRECTORY
    usual.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4711)
    own = read_environment({}).directory
    assert own == tmp_path / f"{settings.DEFAULT_DIRECTORY}-4711"
    assert comes_and_goes(own)
    assert read_environment({"TRACKSIDE_DIR": str(usual)}).directory == usual


class _Odd(msgspec.Struct):
    text: str
    more: tuple[str, ...] = ()


def test_json_of_any_text() -> None:
    """Lone surrogates come back as they were, and damaged JSON is an error as ever."""
    odd = _Odd("caf\udce9 \\", ("ä", "\ud800"))
    assert lossless_json.decode(lossless_json.encode(odd), _Odd) == odd
    for damaged in (b'{"text":"\\udce9"', b'["\\udce9"]', b'{"text":5}', b"\xff"):
        with pytest.raises(msgspec.MsgspecError):
            lossless_json.decode(damaged, _Odd)
