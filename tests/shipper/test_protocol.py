"""The wakeup pipe: signal numbers and nudges, never a wait."""

from __future__ import annotations

import os
import signal

import pytest

from tests.support.pipes import read_bytes
from trackside.shipper.protocol import NUDGE, SEEN, WakeupPipe, signals_in


@pytest.fixture
def pipe():
    """A pipe, closed at the end."""
    made = WakeupPipe()
    yield made
    made.close()


def test_bytes_come_through(pipe: WakeupPipe) -> None:
    """In order. An empty pipe is empty bytes, not a wait."""
    assert read_bytes(pipe.read_end) == b""
    pipe.send(15)
    pipe.send(NUDGE)
    pipe.send(SEEN)
    assert read_bytes(pipe.read_end) == bytes((15, NUDGE, SEEN))
    assert read_bytes(pipe.read_end) == b""


def test_a_full_pipe_never_blocks(pipe: WakeupPipe) -> None:
    """Without a reader the sender continues: one byte already says that there is something to see."""
    for _ in range(70_000):  # Linux pipes hold 65,536
        pipe.send(NUDGE)
    assert read_bytes(pipe.read_end) == bytes((NUDGE,)) * 4096


def test_only_signal_numbers_count_as_signals() -> None:
    """Nudges and what else may come are none."""
    assert signals_in(bytes((0, 2, 15, 64, 65, NUDGE, SEEN, 255))) == [2, 15, 64]


def test_python_writes_signals_there(pipe: WakeupPipe) -> None:
    """What it is for: the C handler writes the number before any Python code runs."""
    previous = signal.signal(signal.SIGUSR1, lambda *_: None)
    before = signal.set_wakeup_fd(pipe.write_end, warn_on_full_buffer=False)
    try:
        signal.raise_signal(signal.SIGUSR1)
    finally:
        signal.set_wakeup_fd(before)
        signal.signal(signal.SIGUSR1, previous)
    assert signals_in(read_bytes(pipe.read_end)) == [signal.SIGUSR1]


def test_a_closed_pipe_touches_nobody_elses_file() -> None:
    """The numbers of its ends are reused at once. A late nudge or a second close must not hit them."""
    pipe = WakeupPipe()
    pipe.close()
    other_read, other_write = os.pipe()
    os.set_blocking(other_read, False)
    try:
        pipe.send(NUDGE)
        pipe.close()
        assert read_bytes(other_read) == b""
        os.write(other_write, b"x")
        assert read_bytes(other_read) == b"x"
    finally:
        os.close(other_read)
        os.close(other_write)
