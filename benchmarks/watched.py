"""A program that logs, watched from outside: when it did what, its end, and what it leaves running."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import psutil

if TYPE_CHECKING:
    from collections.abc import Iterator

SAID = Path("said")
"""What it and its children print. Not a pipe: one who outlives it would hold it open."""


class Event(NamedTuple):
    name: str
    number: int
    moment: float
    """By the clock that all processes of a machine share: time.monotonic()."""


class Watched:
    """``benchmarks.program`` with one library, started in the current directory."""

    def __init__(self, name: str, *, samples: int, metrics: int, pause: float) -> None:
        reader, writer = os.pipe()
        arguments = [name, *map(str, (samples, metrics, pause, writer))]
        with SAID.open("wb") as said:
            self.begun = time.monotonic()
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.program", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
                pass_fds=[writer],
            )
        os.close(writer)
        self._events = os.fdopen(reader, "rb")
        self._others: list[psutil.Process] = []

    @property
    def pid(self) -> int:
        """Of the program."""
        return self._process.pid

    def events(self) -> Iterator[Event]:
        """What it says, to its end."""
        for line in self._events:
            name, number, moment = line.split()
            yield Event(name.decode(), int(number), float(moment))

    def note_others(self) -> None:
        """Remember the processes that it has started so far."""
        self._others = psutil.Process(self._process.pid).children(recursive=True)

    def kill(self) -> None:
        """SIGKILL, to the program alone."""
        self._process.kill()

    def wait(self) -> int:
        """Its exit code."""
        self._events.close()
        return self._process.wait()

    def wait_for_others(self, timeout: float) -> list[str]:
        """Let the noted ones end by themselves; the names of those that did not, which are then killed."""
        deadline = time.monotonic() + timeout
        while (left := [one for one in self._others if _runs(one)]) and time.monotonic() < deadline:
            time.sleep(0.02)
        names = [one.name() for one in left if _runs(one)]
        for one in left:
            one.kill()
        return names


def _runs(process: psutil.Process) -> bool:
    """Whether it still runs. An orphan may have no process that waits for it, so a zombie has ended, too."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def complain() -> None:
    """Show what the program printed: its last line becomes the error in the table."""
    sys.exit(SAID.read_text(errors="replace").strip() or "the program ended otherwise, and said nothing")
