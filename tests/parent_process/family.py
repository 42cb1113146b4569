"""A ``trackside run``, with a program under it that says what it sees."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil

from tests.support import recorder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PATIENCE = 90.0
"""Seconds that anything may take on a busy machine."""

TRAIN = (
    recorder.IN_A_SCRIPT
    + """
import os, signal, sys, time
import trackside
trackside.start()
for step in range(20):
    trackside.log({"loss": 1.0}, step=step)
print("ready", flush=True)
"""
)
"""Trains, and is recorded without MLflow."""

LISTEN = """
import os, signal, sys, time
names = "SIGHUP SIGINT SIGQUIT SIGUSR1 SIGUSR2 SIGTERM SIGWINCH SIGALRM SIGABRT SIGCONT".split()
numbers = {int(getattr(signal, name)) for name in names} | {int(getattr(signal, "SIGRTMIN", 64)) + 3}
for number in numbers:
    signal.signal(number, lambda number, frame: os.write(1, b"got %d\\n" % number))
os.write(1, b"ready %d\\n" % os.getpid())
for line in sys.stdin:
    os.write(1, b"said " + line.encode())
"""
"""Says which signals it gets. It ends with its input."""


@dataclass
class Family:
    """The processes of one ``trackside run``, in ``place``."""

    place: Path
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def journals(self) -> Path:
        """Where journals lie."""
        return self.place / "journals"

    @property
    def records(self) -> Path:
        """Where runs are recorded."""
        return self.place / "records"

    def environment(self, **more: str) -> dict[str, str]:
        """What the command is started with."""
        return {
            **os.environ,
            **recorder.environment(self.records),
            "TRACKSIDE_DIR": str(self.journals),
            "TMPDIR": str(self.place),
            **more,
        }

    def script(self, text: str) -> str:
        """A Python script with ``text``."""
        path = self.place / f"script{len(list(self.place.glob('script*')))}.py"
        path.write_text(text)
        return str(path)

    def start(
        self, *command: str, options: tuple[str, ...] = (), before: tuple[str, ...] = (), **how: Any
    ) -> subprocess.Popen[str]:
        """``trackside run`` with ``command``, in a process group of its own."""
        environment = self.environment(**how.pop("env", {}))
        process = subprocess.Popen(
            [*before, sys.executable, "-m", "trackside", "run", *options, "--", *command],
            cwd=self.place,
            env=environment,
            **{
                "stdin": subprocess.PIPE,
                "stdout": subprocess.PIPE,
                "stderr": subprocess.PIPE,
                "text": True,
                "preexec_fn": os.setpgrp,
                **how,
            },
        )
        self.processes.append(process)
        return process

    def python(self, text: str, *arguments: str, **how: Any) -> subprocess.Popen[str]:
        """``trackside run`` with a Python program."""
        return self.start(sys.executable, self.script(text), *arguments, **how)

    def left(self) -> list[str]:
        """What is left of the parent's folders."""
        return [path.name for path in self.place.glob("trackside-run-*")]

    def end(self) -> None:
        """Kill what still runs."""
        for process in self.processes:
            with contextlib.suppress(psutil.Error):
                for child in psutil.Process(process.pid).children(recursive=True):
                    with contextlib.suppress(psutil.Error):
                        child.kill()
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


def line_of(process: subprocess.Popen[str]) -> str:
    """The next line that the program prints."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def child_of(process: subprocess.Popen[str]) -> int:
    """The process number that a listening program says it has."""
    word, number = line_of(process).split()
    assert word == "ready"
    return int(number)


def say(process: subprocess.Popen[str], word: str) -> None:
    """Have the listening program answer: whatever it got before has been printed by then."""
    assert process.stdin is not None
    process.stdin.write(f"{word}\n")
    process.stdin.flush()


def heard_until(process: subprocess.Popen[str], word: str) -> list[int]:
    """The signals that the program has got before it answers ``word``."""
    heard = []
    while (line := line_of(process)) != f"said {word}":
        assert line.startswith("got "), line
        heard.append(int(line.removeprefix("got ")))
    return heard


def eventually(condition: Callable[[], object], what: str) -> None:
    """Wait until ``condition`` holds."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


def is_stopped(pid: int) -> bool:
    """Whether the process is stopped."""
    return bool(psutil.Process(pid).status() == psutil.STATUS_STOPPED)


def is_gone(pid: int) -> bool:
    """Whether no process has the number, or a zombie has."""
    try:
        return bool(psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def signal_name(number: int) -> str:
    """A name for test ids."""
    return signal.Signals(number).name if number in {int(one) for one in signal.Signals} else f"RT{number}"
