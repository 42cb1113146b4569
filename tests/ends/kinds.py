"""The kinds of ends, each with what its cases have in common, and what is done to a process."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING, Any

import psutil

from tests.ends.harness import Case

if TYPE_CHECKING:
    import subprocess


def clean(name: str, script: str, reason: str = "", **more: Any) -> Case:
    """The program returns with 0, and the run is FINISHED."""
    return Case(name, script, "FINISHED", reason=reason, **more)


def failed(name: str, script: str, exit_code: int, reason: str = "", **more: Any) -> Case:
    """The program leaves with ``exit_code``, and the run is FAILED."""
    return Case(name, script, "FAILED", exit_code, reason=reason, **more)


def raising(name: str, script: str, **more: Any) -> Case:
    """``ValueError('boom')`` is raised, printed and the reason of the end."""
    return failed(name, script, 1, "ValueError: boom", stderr="ValueError: boom", **more)


def sigterm(name: str, script: str, exit_code: int = -signal.SIGTERM, **more: Any) -> Case:
    """SIGTERM comes, and the run is KILLED."""
    return _killed(name, script, signal.SIGTERM, exit_code, "SIGTERM", **more)


def ctrl_c(name: str, script: str, exit_code: int = -signal.SIGINT, **more: Any) -> Case:
    """SIGINT comes, and the run is KILLED."""
    return _killed(name, script, signal.SIGINT, exit_code, "Ctrl-C", **more)


def sigkilled(name: str, script: str, **more: Any) -> Case:
    """SIGKILL comes, and the run is FAILED: the process could say nothing."""
    act = more.pop("act", send(signal.SIGKILL))
    return failed(name, script, -signal.SIGKILL, "died without a word", act=act, **more)


def _killed(name: str, script: str, number: int, exit_code: int, reason: str, **more: Any) -> Case:
    act = more.pop("act", send(number))
    return Case(name, script, "KILLED", exit_code, act=act, reason=reason, **more)


def send(number: int, *, after: float = 0.0):
    """Send a signal to the process once it is ready."""

    def act(process: subprocess.Popen[str]) -> None:
        time.sleep(after)
        process.send_signal(number)

    return act


def send_to_group(number: int):
    """Send a signal to the whole process group, as a terminal or a scheduler does."""

    def act(process: subprocess.Popen[str]) -> None:
        os.killpg(process.pid, number)

    return act


def send_to_shipper(*numbers: int):
    """Send signals to the shipper, as a scheduler does that warns every process of a job."""

    def act(process: subprocess.Popen[str]) -> None:
        (shipper,) = psutil.Process(process.pid).children()
        for number in numbers:
            shipper.send_signal(number)

    return act


def then(*acts):
    """Act one after the other, half a second apart."""

    def act(process: subprocess.Popen[str]) -> None:
        for one in acts:
            one(process)
            time.sleep(0.5)

    return act


def stop_and_continue(seconds: float):
    """Freeze the process for a while, which is no death, then end it."""

    def act(process: subprocess.Popen[str]) -> None:
        process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        process.send_signal(signal.SIGCONT)

    return act
