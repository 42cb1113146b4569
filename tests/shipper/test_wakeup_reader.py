"""The shipper's end of the wakeup pipe."""

from __future__ import annotations

import os
import threading

import pytest

from trackside.shipper.protocol import WakeupPipe
from trackside.shipper.wakeup_reader import WakeupReader


@pytest.fixture
def pipe():
    """A pipe, closed at the end."""
    made = WakeupPipe()
    yield made
    made.close()


def test_it_takes_everything_and_waits_for_nothing(pipe: WakeupPipe) -> None:
    """An empty pipe may get more. One whose other end is closed gets nothing more, nor does none at all."""
    taken: list[bytes] = []
    reader = WakeupReader(pipe.read_end, taken.append)
    assert reader.read()
    os.write(pipe.write_end, b"x" * 10_000)
    assert reader.read()
    assert b"".join(taken) == b"x" * 10_000
    os.close(os.dup(pipe.write_end))
    assert reader.read()
    read_end, write_end = os.pipe()
    os.close(write_end)
    assert not WakeupReader(read_end, taken.append).read()
    os.close(read_end)
    assert not WakeupReader(read_end, taken.append).read()
    assert not WakeupReader(None, taken.append).read()


def test_what_another_thread_reads_is_taken_in_first(pipe: WakeupPipe) -> None:
    """Else that thread would still have to take it in while this one judges without it."""
    taken: list[bytes] = []
    begun, go = threading.Event(), threading.Event()

    def take(data: bytes) -> None:
        begun.set()
        assert go.wait(30)
        taken.append(data)

    reader = WakeupReader(pipe.read_end, take)
    os.write(pipe.write_end, b"x")
    other = threading.Thread(target=reader.read)
    other.start()
    assert begun.wait(30)
    threading.Timer(0.05, go.set).start()
    reader.read()
    assert taken == [b"x"]
    other.join()
