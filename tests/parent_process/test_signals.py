"""Signals reach the command once, whatever sends them, whether to one process or to all."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import time

import psutil
import pytest

from tests.parent_process.family import (
    LISTEN,
    TRAIN,
    Family,
    child_of,
    eventually,
    heard_until,
    is_gone,
    is_stopped,
    line_of,
    say,
    signal_name,
)
from tests.support.recorder import only_run

pytestmark = pytest.mark.process

NUMBERS = [
    *map(int, (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)),
    *map(int, (signal.SIGWINCH, signal.SIGALRM, signal.SIGABRT, signal.SIGCONT)),
    *([int(signal.SIGRTMIN) + 3] if hasattr(signal, "SIGRTMIN") else []),
]


def heard(process: subprocess.Popen[str], number: int) -> list[int]:
    """What the program has got, once it has ``number`` and whatever may come after it has had its time."""
    assert line_of(process) == f"got {number}"
    time.sleep(0.5)  # a second one would be here by now
    say(process, "then")
    return [number, *heard_until(process, "then")]


def test_a_signal_to_the_parent_alone_is_passed_on(family: Family) -> None:
    """``kill PID``, ``docker stop``: the command gets it, and once."""
    process = family.python(LISTEN)
    child_of(process)
    for number in NUMBERS:
        os.kill(process.pid, number)
        assert heard(process, number) == [number], signal_name(number)


def test_a_signal_to_the_group_is_not_doubled(family: Family) -> None:
    """``kill -- -GROUP``, SLURM, systemd: the command has it already."""
    process = family.python(LISTEN)
    child_of(process)
    for number in NUMBERS:
        os.killpg(process.pid, number)
        assert heard(process, number) == [number], signal_name(number)


def test_a_signal_to_every_process_by_number(family: Family) -> None:
    """Schedulers that know no groups signal one process after another."""
    process = family.python(LISTEN)
    child = child_of(process)
    others = [p.pid for p in psutil.Process(process.pid).children() if p.pid != child]
    for number in NUMBERS:
        for pid in (*others, process.pid, child):
            os.kill(pid, number)
        assert heard(process, number) == [number], signal_name(number)


def test_a_signal_to_the_command_alone(family: Family) -> None:
    """The parent has no part in it."""
    process = family.python(LISTEN)
    child = child_of(process)
    os.kill(child, signal.SIGTERM)
    assert heard(process, signal.SIGTERM) == [signal.SIGTERM]


def test_a_command_with_a_group_of_its_own(family: Family) -> None:
    """A signal to the parent's group does not reach it, so it is passed on."""
    process = family.python("import os; os.setpgid(0, 0)\n" + LISTEN)
    child_of(process)
    os.killpg(process.pid, signal.SIGTERM)
    assert heard(process, signal.SIGTERM) == [signal.SIGTERM]


def test_without_a_witness(family: Family) -> None:
    """If it was killed, a signal is passed on rather than lost."""
    process = family.python(LISTEN)
    child = child_of(process)
    (witness,) = (other for other in psutil.Process(process.pid).children() if other.pid != child)
    witness.kill()
    eventually(lambda: is_gone(witness.pid), "lives on")
    os.kill(process.pid, signal.SIGTERM)
    assert heard(process, signal.SIGTERM) == [signal.SIGTERM]


def in_a_terminal(family: Family, text: str, *arguments: str) -> tuple[subprocess.Popen[str], int]:
    """The command in the foreground of a terminal of its own, and our side of that terminal."""
    ours, theirs = pty.openpty()

    def be_in_foreground() -> None:
        os.setsid()
        os.close(os.open(os.ttyname(theirs), os.O_RDWR))  # the first terminal it opens becomes its own

    process = family.python(
        text,
        *arguments,
        stdin=theirs,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=be_in_foreground,
    )
    os.close(theirs)
    return process, ours


def test_ctrl_c_at_a_terminal(family: Family) -> None:
    """The terminal signals the whole group. The command gets one SIGINT."""
    process, terminal = in_a_terminal(family, LISTEN)
    child_of(process)
    os.write(terminal, b"\x03")
    assert line_of(process) == f"got {int(signal.SIGINT)}"
    time.sleep(0.5)
    os.write(terminal, b"then\n")
    assert heard_until(process, "then") == []
    os.close(terminal)


def test_ctrl_c_kills_a_training(family: Family) -> None:
    """As without the parent: KeyboardInterrupt, and the run is KILLED."""
    process, terminal = in_a_terminal(family, TRAIN + "time.sleep(600)")
    assert line_of(process) == "ready"
    os.write(terminal, b"\x03")
    process.communicate(timeout=120)
    os.close(terminal)
    assert process.returncode == -signal.SIGINT
    assert only_run(family.records).status == "KILLED"


def test_a_terminal_is_the_commands(family: Family) -> None:
    """It reads from it, and is in its foreground."""
    look = "import os, sys; print(os.isatty(0), os.tcgetpgrp(0) == os.getpgrp(), input(), flush=True)"
    process, terminal = in_a_terminal(family, look)
    os.write(terminal, b"hello\n")
    assert line_of(process) == "True True hello"
    process.communicate(timeout=60)
    os.close(terminal)


def test_stop_and_continue_the_job(family: Family) -> None:
    """Ctrl-Z: both are stopped, because the shell waits for the parent. Then ``fg``."""
    process = family.python(LISTEN)
    child = child_of(process)
    os.killpg(process.pid, signal.SIGTSTP)
    eventually(lambda: is_stopped(child) and is_stopped(process.pid), "not stopped")
    os.killpg(process.pid, signal.SIGCONT)
    assert heard(process, signal.SIGCONT) == [signal.SIGCONT]
    assert not is_stopped(process.pid)


def test_stop_and_continue_the_parent(family: Family) -> None:
    """A sender that knows only the parent stops and continues both."""
    process = family.python(LISTEN)
    child = child_of(process)
    os.kill(process.pid, signal.SIGTSTP)
    eventually(lambda: is_stopped(child) and is_stopped(process.pid), "not stopped")
    os.kill(process.pid, signal.SIGCONT)
    assert heard(process, signal.SIGCONT) == [signal.SIGCONT]


def test_a_command_that_is_stopped_by_another_process(family: Family) -> None:
    """The parent stays awake, because nothing would continue it."""
    process = family.python(LISTEN)
    child = child_of(process)
    os.kill(child, signal.SIGSTOP)
    eventually(lambda: is_stopped(child), "not stopped")
    time.sleep(0.3)
    assert not is_stopped(process.pid)
    os.kill(child, signal.SIGCONT)
    assert heard(process, signal.SIGCONT) == [signal.SIGCONT]


def test_a_command_that_handles_ctrl_z(family: Family) -> None:
    """Neither of the two stops."""
    handle = LISTEN.replace("SIGHUP ", "SIGHUP SIGTSTP ")
    process = family.python(handle)
    child = child_of(process)
    os.killpg(process.pid, signal.SIGTSTP)
    assert heard(process, signal.SIGTSTP) == [signal.SIGTSTP]
    assert not is_stopped(process.pid)
    assert not is_stopped(child)


def test_a_command_that_ignores_sigterm(family: Family) -> None:
    """The parent stands by it for as long as it lives."""
    process = family.python(
        "import signal, sys; signal.signal(15, signal.SIG_IGN); print('ready', 0, flush=True);"
        "sys.stdin.read(); sys.exit(6)"
    )
    child_of(process)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.3)
    assert process.poll() is None
    process.communicate(timeout=60)
    assert process.returncode == 6


def test_dispositions_and_mask_are_inherited(family: Family) -> None:
    """``nohup``, and whatever else the caller has ignored or blocked. What Python ignores is put back."""

    def prepare() -> None:
        os.setpgrp()
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR2})

    process = family.start("grep", "-E", "Sig(Ign|Blk)", "/proc/self/status", preexec_fn=prepare)
    output, errors = process.communicate(timeout=60)
    if not output:  # no /proc
        return
    found = {name: int(mask, 16) for name, mask in (line.split(":\t") for line in output.splitlines())}
    ignored = found["SigIgn"] & 0x7FFFFFFF  # the C library has some above for itself
    assert ignored == 1 << (signal.SIGHUP - 1) | 1 << (signal.SIGINT - 1), errors
    assert found["SigBlk"] == 1 << (signal.SIGUSR2 - 1)


def test_under_timeout(family: Family) -> None:
    """GNU ``timeout`` signals the command, then the group. The run is KILLED."""
    process = family.python(TRAIN + "time.sleep(600)", before=("timeout", "20"), stdin=subprocess.DEVNULL)
    assert line_of(process) == "ready"
    process.communicate(timeout=120)
    assert process.returncode == 124
    assert only_run(family.records).status == "KILLED"
