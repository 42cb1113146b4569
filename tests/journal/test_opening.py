from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import msgspec
import pytest

from tests.journal.tools import new_journal, read_all, sample, steps
from trackside.destinations.mlflow.run_id_file import RUN_ID_FILE, read_run_id_file
from trackside.journal.directory import JournalDirectory
from trackside.journal.files import read_json
from trackside.journal.lock import is_locked
from trackside.journal.meta import State
from trackside.journal.opening import UnfitFileError, open_file, read_file, read_tail
from trackside.journal.outbox import Outbox
from trackside.journal.scoreboard import read_dropped, read_signals
from trackside.journal.writer import JournalWriter
from trackside.lifecycle.exit_code import read_exit_code

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def fifo(path: Path) -> None:
    """A pipe whose other end never opens."""
    os.mkfifo(path)


def folder(path: Path) -> None:
    """A folder with something in it."""
    path.mkdir()
    (path / "inside").touch()


def endless(path: Path) -> None:
    """A link to a device that never ends."""
    path.symlink_to("/dev/zero")


def link(path: Path) -> None:
    """A link to a file of somebody's."""
    path.with_name("secret").write_text("{}")
    path.symlink_to(path.with_name("secret"))


def sparse(path: Path) -> None:
    """A file of a terabyte that takes no room."""
    with open(path, "wb") as file:
        file.truncate(1 << 40)


ODD = [fifo, folder, endless, link]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", ODD)
@pytest.mark.parametrize("flags", [os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREAT])
def test_only_a_regular_file_is_opened(tmp_path: Path, make: Callable[[Path], None], flags: int) -> None:
    """A FIFO, a folder, a device or a link is refused at once, and no descriptor stays open."""
    make(tmp_path / "file")
    before = os.listdir("/dev/fd")
    with pytest.raises(UnfitFileError, match="not a regular file"):
        open_file(tmp_path / "file", flags)
    assert len(os.listdir("/dev/fd")) == len(before)


def test_a_new_file_is_private(tmp_path: Path) -> None:
    """A file that is made can be read by its owner alone."""
    os.close(open_file(tmp_path / "file", os.O_WRONLY | os.O_CREAT))
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o600


def test_a_file_larger_than_its_kind_is_not_read(tmp_path: Path) -> None:
    """At the limit a file is read whole; beyond it nothing is, whatever its size says."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_file(path, 5) == b"12345"
    assert read_tail(path, 2) == b"45"
    with pytest.raises(UnfitFileError, match="larger than 4 bytes"):
        read_file(path, 4)
    with pytest.raises(UnfitFileError):  # says 0 bytes
        read_file(f"/proc/{os.getpid()}/maps", 4)
    sparse(tmp_path / "sparse")
    began = time.monotonic()
    with pytest.raises(UnfitFileError):
        read_file(tmp_path / "sparse", 1 << 26)
    assert time.monotonic() - began < 5


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", [*ODD, sparse])
@pytest.mark.outside
def test_an_odd_file_is_as_good_as_a_missing_one(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Everything that reads a part of a journal takes an odd file for a missing or damaged one."""
    journal = JournalDirectory(tmp_path / "journal")
    journal.path.mkdir()
    (journal.path / "artifacts").mkdir()
    odd = [journal.state, journal.scoreboard, journal.exit_code, journal.lock, journal.segment(1)]
    for path in [*odd, journal.path / "artifacts" / "config.yaml", journal.path / RUN_ID_FILE]:
        make(path)
        path.with_name("secret").unlink(missing_ok=True)
    assert read_json(journal.state, State) is None
    assert read_dropped(journal.scoreboard) == 0
    assert read_signals(journal.scoreboard) == []
    assert read_exit_code(journal.exit_code) is None
    assert not is_locked(journal.lock)
    assert read_run_id_file(journal.path) is None
    if make is not sparse:
        assert Outbox(journal.path).pending() == []
    assert read_all(journal)[0] == []


@pytest.mark.timeout(20)
@pytest.mark.parametrize("make", ODD)
def test_an_odd_segment_is_stepped_over(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """Where the next segment's name is taken, the writer uses a later one, and the reader follows."""
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal, cap=1 << 22)
    make(journal.segment(2))
    for step in range(4):
        assert writer.append(sample(step, 30_000))
    writer.close()
    assert len(journal.segment_numbers()) > 2
    assert steps(read_all(journal)[0]) == [0, 1, 2, 3]


def test_only_the_names_trackside_gives_are_segments(tmp_path: Path) -> None:
    """Other digits, more zeros and numbers beyond any count are not segments."""
    for name in ["00000001.seg", "000000002.seg", "٠٠٠٠٠٠٠٣.seg", "9" * 60 + ".seg", "00000004.seg.tmp"]:
        (tmp_path / name).touch()
    assert JournalDirectory(tmp_path).segment_numbers() == [1]


def test_a_run_id_behind_a_link_is_read(tmp_path: Path) -> None:
    """The file beside the checkpoints is the user's own, and may be a link to another folder's."""
    (tmp_path / "first").write_text("abc123\n")
    (tmp_path / RUN_ID_FILE).symlink_to("first")
    assert read_run_id_file(tmp_path) == "abc123"


def test_a_state_of_any_size_below_the_limit_is_read(tmp_path: Path) -> None:
    """A state of a few megabytes is read as a small one is."""
    state = State(pid=1, notices=["x" * 1000] * 3000)
    (tmp_path / "state.json").write_bytes(msgspec.json.encode(state))
    assert read_json(tmp_path / "state.json", State) == state
