"""The ways to end that every training process may meet."""

from __future__ import annotations

import os
import signal
import subprocess
import time

from tests.ends.harness import Case


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


START = "run = trackside.start('ends', config={'lr': 0.1})\nemit(20)\n"
SLEEP = "ready()\ntime.sleep(60)\n"

BASIC = [
    Case("clean return", START, "FINISHED", reason="exit code 0"),
    Case("finish()", START + "run.finish()", "FINISHED", reason="finished"),
    Case("with block", "with trackside.start('ends'):\n    emit(20)", "FINISHED"),
    Case("sys.exit(0)", START + "sys.exit(0)", "FINISHED"),
    Case("uncaught exception", START + "raise ValueError('boom')", "FAILED", 1, reason="ValueError: boom", stderr="ValueError: boom"),
    Case("with block, raising", "with trackside.start('ends'):\n    emit(20)\n    raise ValueError('boom')", "FAILED", 1, reason="ValueError: boom", stderr="ValueError: boom"),
    Case("sys.exit(1)", START + "sys.exit(1)", "FAILED", 1, reason="exit code 1"),
    Case("sys.exit('text')", START + "sys.exit('no data')", "FAILED", 1, reason="no data", stderr="no data"),
    Case("raise SystemExit(3)", START + "raise SystemExit(3)", "FAILED", 3, reason="exit code 3"),
    Case("Ctrl-C", START + SLEEP, "KILLED", -signal.SIGINT, act=send(signal.SIGINT), reason="Ctrl-C", stderr="KeyboardInterrupt"),
    Case("SIGTERM, no handler", START + SLEEP, "KILLED", -signal.SIGTERM, act=send(signal.SIGTERM), reason="SIGTERM"),
    Case("SIGKILL right after the last emit", START + SLEEP, "FAILED", -signal.SIGKILL, act=send(signal.SIGKILL), reason="died without a word"),
]
