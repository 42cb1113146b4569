"""The command is started as ``exec`` would start it, and a command that can't be started says why."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.parent_process.family import LISTEN, Family, child_of, line_of

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.process


def test_a_command_that_is_not_there(family: Family) -> None:
    """127, as a shell has it."""
    process = family.start("no-such-command")
    assert process.communicate(timeout=60)[1] == "trackside: no-such-command: command not found\n"
    assert process.returncode == 127
    assert not family.left()


@pytest.mark.parametrize(
    ("text", "mode", "why"),
    [
        ("print()", 0o644, "Write `trackside run -- python {path}`"),
        ("#!/no/such/interpreter\n", 0o755, "the interpreter that its first line names does not exist"),
    ],
)
def test_a_command_that_can_not_be_run(family: Family, text: str, mode: int, why: str) -> None:
    """126, and what to do."""
    path = family.place / "train.py"
    path.write_text(text)
    path.chmod(mode)
    process = family.start(str(path))
    assert why.format(path=path) in process.communicate(timeout=60)[1]
    assert process.returncode == 126


def test_a_script_without_an_interpreter(family: Family) -> None:
    """The shell runs it, as everywhere."""
    path = family.place / "job"
    path.write_text('echo "$1"; exit 9\n')
    path.chmod(0o755)
    process = family.start(str(path), "a b")
    assert process.communicate(timeout=60)[0] == "a b\n"
    assert process.returncode == 9


def test_arguments_folder_input_and_output(family: Family) -> None:
    """Bytes that are not UTF-8, empty arguments, options that look like ours, the working folder, a pipe."""
    look = "import os, sys; print(os.getcwd(), list(map(os.fsencode, sys.argv[2:])), sys.stdin.read())"
    words = ["--grace", "", "--", os.fsdecode(b"\xff"), "a b"]
    process = family.start(sys.executable, "-c", look, "-x", *words)
    output, errors = process.communicate("words", timeout=60)
    assert output == f"{family.place} {list(map(os.fsencode, words))} words\n", errors


def test_descriptors_are_passed_on_and_let_go(family: Family) -> None:
    """``make``'s job server, ``>(...)``: the command has them, and the parent does not hold them open."""
    read, write = os.pipe()
    process = family.python(
        "import os, sys; os.write(int(sys.argv[1]), b'here')", str(write), pass_fds=(write,)
    )
    os.close(write)
    process.communicate(timeout=60)
    with os.fdopen(read, "rb") as pipe:
        assert pipe.read() == b"here"


def test_descriptors_that_are_closed(family: Family) -> None:
    """A daemon may have neither input nor output. The command has none either, and signals work."""
    look = """
import os, time
def is_open(number):
    try:
        return bool(os.fstat(number))
    except OSError:
        return False
found = str([number for number in range(3) if is_open(number)])
with open("found", "w") as file:
    file.write(found)
os.kill(os.getppid(), 15)
time.sleep(600)
"""
    closed = ("sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh")
    process = family.python(look, before=closed)
    process.communicate(timeout=120)
    assert (family.place / "found").read_text() == "[]"
    assert process.returncode == -15


def test_input_that_the_command_closes(family: Family) -> None:
    """A writer to its input gets a broken pipe while the command still works."""
    process = family.start("sh", "-c", "exec <&-; echo closed; sleep 60")
    assert line_of(process) == "closed"
    assert process.stdin is not None

    def fill() -> None:
        assert process.stdin is not None
        for _ in range(100):
            os.write(process.stdin.fileno(), b"x" * 65536)

    with pytest.raises(BrokenPipeError):
        fill()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="nothing else tells what was given")
@pytest.mark.parametrize("given", [{}, {"LC_CTYPE": "C.UTF-8"}])
def test_the_environment_is_the_users(family: Family, given: dict[str, str]) -> None:
    """Python sets a variable for itself in the C locale. The command does not get it, unless it was given."""
    bare = {"PATH": os.environ["PATH"], "TRACKSIDE_DIR": str(family.journals), **given}
    process = family.start("env", before=("env", "-i", *(f"{name}={value}" for name, value in bare.items())))
    output, errors = process.communicate(timeout=60)
    added = {"MLFLOW_TRACKING_URI", "TRACKSIDE_PARENT_FOLDER"}
    assert {line.partition("=")[0] for line in output.splitlines()} == {*bare, *added}, errors


def test_the_parent_is_small(family: Family) -> None:
    """It lives as long as a training: no packages, no threads."""
    process = family.python(LISTEN)
    child_of(process)
    parent = psutil.Process(process.pid)
    assert parent.num_threads() == 1
    if sys.platform.startswith("linux"):
        loaded = {region.path for region in parent.memory_maps()}
        assert not [path for path in loaded if "site-packages" in path]
        assert parent.memory_info().rss < 24 << 20


def test_a_folder_for_its_notes_that_can_not_be_made(family: Family, tmp_path: Path) -> None:
    """The next place is taken."""
    process = family.start("sh", "-c", 'echo "$TRACKSIDE_PARENT_FOLDER"', env={"TMPDIR": "/no/such/folder"})
    assert line_of(process).startswith(str(family.journals))
    process.communicate(timeout=60)
