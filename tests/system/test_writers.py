from __future__ import annotations

import mmap
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest

from trackside.system import writers
from trackside.system.writers import has_writer

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def descriptor(tmp_path: Path):
    """The file ``tmp_path/f``, open for reading."""
    (tmp_path / "f").write_bytes(b"x" * 4096)
    descriptor = os.open(tmp_path / "f", os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def test_a_file_that_is_open_for_writing_has_a_writer(descriptor: int, tmp_path: Path) -> None:
    """Until it is closed. Readers don't count."""
    assert has_writer(descriptor) is False
    with (tmp_path / "f").open("rb"):
        assert has_writer(descriptor) is False
    with (tmp_path / "f").open("ab"):
        assert has_writer(descriptor) is True
    assert has_writer(descriptor) is False


def test_a_file_that_is_mapped_for_writing_has_a_writer(descriptor: int, tmp_path: Path) -> None:
    """Also after the descriptor is closed."""
    with (tmp_path / "f").open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 4096)
    assert has_writer(descriptor) is True
    mapped.close()
    assert has_writer(descriptor) is False


def test_the_system_may_not_tell(descriptor: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux, and for a descriptor that takes no lease."""
    read_end, write_end = os.pipe()
    assert has_writer(read_end) is None
    os.close(read_end)
    os.close(write_end)
    monkeypatch.setattr(writers, "_SET_LEASE", None)
    assert has_writer(descriptor) is None


def test_a_writer_that_comes_in_between_ends_no_process(descriptor: int, tmp_path: Path) -> None:
    """It gets the file as if it were not watched, while this process asks again and again."""
    assert signal.getsignal(signal.SIGIO) == signal.SIG_DFL  # it would end the process
    asked, done = threading.Event(), threading.Event()

    def write() -> None:
        asked.wait()
        for _ in range(2000):
            os.close(os.open(tmp_path / "f", os.O_WRONLY))
        done.set()

    thread = threading.Thread(target=write)
    thread.start()
    answers = set()
    while not done.is_set():
        answers.add(has_writer(descriptor))
        asked.set()
    thread.join()
    assert answers <= {True, False}
    assert answers
