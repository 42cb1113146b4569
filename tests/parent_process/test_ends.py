"""``trackside run`` ends as its command ends, after the shipper has delivered everything."""

from __future__ import annotations

import signal
import sys

import psutil
import pytest

from tests.ends.container import COMMAND, can_make_container
from tests.parent_process.family import LISTEN, TRAIN, Family, child_of, eventually, is_gone, line_of
from tests.support.recorder import only_run, read_runs

pytestmark = pytest.mark.process

ENDS = {
    "return": ("", 0, "FINISHED", "exit code 0"),
    "exit": ("sys.exit(3)", 3, "FAILED", "exit code 3"),
    "os._exit": ("os._exit(3)", 3, "FAILED", "died without a word"),
    "SIGKILL": ("os.kill(os.getpid(), 9)", -9, "FAILED", "died without a word (SIGKILL)"),
    "SIGSEGV": ("import ctypes; ctypes.string_at(0)", -11, "FAILED", "died without a word (SIGSEGV)"),
    "SIGTERM": ("os.kill(os.getpid(), 15); time.sleep(60)", -15, "KILLED", "SIGTERM"),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_end_is_kept_and_everything_delivered(how: str, family: Family) -> None:
    """The exit code, or the death by signal. The shipper is done when the command returns."""
    last, code, status, reason = ENDS[how]
    process = family.python(TRAIN + last)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == code, errors
    run = only_run(family.records)
    assert (run.status, run.reason.startswith(reason)) == (status, True), run
    assert len(run.steps("loss")) == 20
    assert not list(family.journals.iterdir())
    assert not family.left()


@pytest.mark.skipif(not can_make_container(), reason="may not make a process namespace here")
@pytest.mark.parametrize("how", ENDS)
def test_process_1_of_a_container(how: str, family: Family) -> None:
    """The kernel kills every process with process 1, so it stays until its shipper is done.

    It can't die by its own signal: it exits with 128 and the number, as a shell does.
    """
    last, code, status, reason = ENDS[how]
    process = family.python(TRAIN + last, before=(*COMMAND,))
    _, errors = process.communicate(timeout=120)
    assert process.returncode == (code if code >= 0 else 128 - code), errors
    run = only_run(family.records)
    assert (run.status, run.reason.startswith(reason)) == (status, True), run
    assert len(run.steps("loss")) == 20
    assert not list(family.journals.iterdir())


@pytest.mark.skipif(not can_make_container(), reason="may not make a process namespace here")
def test_process_1_passes_on_a_signal(family: Family) -> None:
    """``docker stop`` signals process 1 alone."""
    process = family.python(TRAIN + "time.sleep(600)", before=COMMAND[:-1])
    assert line_of(process) == "ready"
    (first,) = psutil.Process(process.pid).children()
    first.send_signal(signal.SIGTERM)
    process.communicate(timeout=120)
    assert process.returncode == 128 + 15
    assert only_run(family.records).status == "KILLED"


def test_a_shell_script_and_what_it_starts(family: Family) -> None:
    """The variable reaches all of the tree, and every run in it is waited for."""
    family.script(TRAIN)
    family.script(TRAIN + "sys.exit(4)")
    line = f"{sys.executable} script0.py; {sys.executable} script1.py; echo $?; exit 5"
    process = family.start("sh", "-c", line)
    output, errors = process.communicate(timeout=120)
    assert (output.split(), process.returncode) == (["ready", "ready", "4"], 5), errors
    assert sorted(run.status or "" for run in read_runs(family.records)) == ["FAILED", "FINISHED"]
    assert not list(family.journals.iterdir())


def test_a_command_within_a_command(family: Family) -> None:
    """The address is not prefixed twice, signals and ends pass through both."""
    inner = (
        sys.executable,
        "-m",
        "trackside",
        "run",
        sys.executable,
        family.script(TRAIN + ENDS["SIGKILL"][0]),
    )
    process = family.start("sh", "-c", 'echo "$MLFLOW_TRACKING_URI"; exec "$@"', "sh", *inner)
    output, errors = process.communicate(timeout=120)
    assert process.returncode == -9, errors
    assert output.count("journal+") == 1
    assert only_run(family.records).reason == "died without a word (SIGKILL)"
    assert not family.left()


def test_the_parent_is_killed(family: Family) -> None:
    """The command continues, and so does its shipper. The witness does not stay behind."""
    process = family.python(TRAIN + "print(os.getpid(), flush=True); sys.stdin.read(); sys.exit(3)")
    assert line_of(process) == "ready"
    child = int(line_of(process))
    others = [p.pid for p in psutil.Process(process.pid).children() if p.pid != child]
    process.kill()
    process.wait()
    eventually(lambda: all(map(is_gone, others)), "a helper of the parent lives on")
    assert not is_gone(child)
    assert process.stdin is not None
    process.stdin.close()
    eventually(lambda: not list(family.journals.iterdir()), "not delivered")
    assert only_run(family.records).status == "FAILED"


def test_an_orphan_is_waited_for(family: Family) -> None:
    """A training that a script has left behind becomes a child of the parent. It leaves no zombie."""
    kill, listen = family.script(TRAIN + ENDS["SIGKILL"][0]), family.script(LISTEN)
    process = family.start("sh", "-c", '("$0" "$1" >&2 &); exec "$0" "$2"', sys.executable, kill, listen)
    child = child_of(process)
    eventually(
        lambda: list(family.records.glob("*.end")) and not list(family.journals.iterdir()), "not delivered"
    )
    assert only_run(family.records).reason == "died without a word (SIGKILL)"
    if sys.platform.startswith("linux"):  # elsewhere it becomes a child of init
        eventually(lambda: len(psutil.Process(process.pid).children()) <= 2, "a dead process stays")
    assert not is_gone(child)
    process.communicate(timeout=60)
    assert process.returncode == 0
