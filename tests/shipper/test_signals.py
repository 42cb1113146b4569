"""A shipper's signals: at no moment of its life can one kill it that is not for it."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from trackside.shipper.signals import LEAVE, all_blocked, ignored

pytestmark = pytest.mark.skipif(
    not hasattr(signal, "pthread_sigmask"), reason="signals can't be blocked here"
)

CHILD = """
import signal, sys
from trackside.shipper.signals import ignore_foreign_signals, on_request_to_leave
ignore_foreign_signals()
print("ready", flush=True)
sys.stdin.readline()
got = []
on_request_to_leave(lambda number, _: got.append(number))
signal.pthread_sigmask(signal.SIG_BLOCK, ())
print(sorted({*got}), sorted({*signal.pthread_sigmask(signal.SIG_BLOCK, ())}), flush=True)
"""


def test_no_signal_kills_it_from_its_first_moment_on() -> None:
    """Those that ask it to leave wait until it can answer. Afterwards nothing is blocked."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    with all_blocked():
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
    assert signal.pthread_sigmask(signal.SIG_BLOCK, ()) == before
    assert child.stdout is not None
    for number in (*LEAVE, *ignored()):
        child.send_signal(number)
    assert child.stdout.readline() == "ready\n"
    for number in ignored():
        child.send_signal(number)
    said, _ = child.communicate("go\n", timeout=60)
    assert child.returncode == 0
    assert said == f"{sorted(map(int, LEAVE))} []\n"


def test_signals_of_the_trainer_come_when_the_shipper_is_started() -> None:
    """They are held up for the moment it takes, and not lost."""
    got: list[int] = []
    previous = signal.signal(signal.SIGUSR1, lambda number, _: got.append(number))
    try:
        with all_blocked():
            signal.raise_signal(signal.SIGUSR1)
            assert got == []
        assert got == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, previous)
