"""Disks that are full, gone, read-only or strange: real ones, wherever they can be had."""

from __future__ import annotations

import errno
import mmap
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.tools import (
    lost,
    new_journal,
    read_all,
    records,
    run_script,
    same,
    sample,
    small_segments,
    steps,
)
from trackside.errors import JournalError
from trackside.journal import writer as writer_module
from trackside.journal.format import ConfigRecord
from trackside.journal.writer import JournalWriter
from trackside.system.mapping import FileBuffer

if TYPE_CHECKING:
    from collections.abc import Iterator

STRANGE = ["no mmap", "no fallocate", "neither"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path | None]:
    """A disk of 6 MB; None where this process may not mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, check=False).returncode:
        yield None
        return
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def refuse(*_: object) -> None:
    """Stand in for a call that the file system doesn't know."""
    raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))


def make_strange(kind: str, patch: pytest.MonkeyPatch) -> None:
    """Have a file system that lacks something."""
    if kind != "no fallocate":
        patch.setattr(mmap, "mmap", refuse)
    if kind != "no mmap":
        patch.setattr(os, "posix_fallocate", refuse)


def check(told: Any) -> None:
    """What has to be so after any disk was full for a while."""
    assert told["same"], told
    assert told["lost"] == 0
    assert told["refused"] == 200
    assert told["dropped"] == 200 * 100
    assert len(told["warnings"]) == 1
    assert "has no room" in told["warnings"][0]
    assert told["cursor_kept"]
    assert told["after"]


@pytest.mark.parametrize("mode", ["mapped", "written"])
def test_full_disk_drops_and_counts_and_goes_on(small_disk: Path | None, tmp_path: Path, mode: str) -> None:
    """A really full disk (or file size limit): no signal, no error, no gap; then room, and on."""
    if small_disk is not None:
        check(run_script("fill_disk.py", "disk", small_disk, mode))
    else:
        check_limit(run_script("fill_disk.py", "limit", tmp_path, mode), mode)


@pytest.mark.parametrize("mode", ["mapped", "written"])
def test_file_size_limit_drops_nothing_that_fits_elsewhere(tmp_path: Path, mode: str) -> None:
    """Under RLIMIT_FSIZE segments are made smaller; what still can't be written is counted."""
    check_limit(run_script("fill_disk.py", "limit", tmp_path, mode), mode)


def check_limit(told: Any, mode: str) -> None:
    """What has to be so after a time under a limit of 600,000 bytes a file."""
    if mode == "written":  # nothing is allocated beforehand: the first segment runs into the limit
        check(told)
        return
    assert told["same"], told
    assert told["lost"] == 0
    assert told["refused"] == 0
    assert told["warnings"] == []


def test_nothing_can_be_mapped(tmp_path: Path) -> None:
    """Without address space for a mapping (RLIMIT_AS) records and signals are written instead."""
    told = run_script("little_memory.py", tmp_path)
    assert told == {"mapped": False, "kept": 1000, "read": 1000, "signals": [15]}


@pytest.mark.parametrize("kind", STRANGE)
@given(given_records=st.lists(records, max_size=12), dead=st.booleans())
@settings(max_examples=25, deadline=None)
def test_strange_file_systems_keep_records_too(kind: str, given_records, dead: bool) -> None:
    """Without mmap, fallocate or both, the same records come back, over several segments."""
    with (
        tempfile.TemporaryDirectory() as root,
        small_segments(512),
        pytest.MonkeyPatch.context() as patch,
    ):
        make_strange(kind, patch)
        journal = new_journal(Path(root))
        writer = JournalWriter(journal)
        assert isinstance(writer.segment.buffer, FileBuffer)
        for record in given_records:
            assert writer.append(record)
        found, reader = read_all(journal, dead=dead)
        assert len(found) == len(given_records)
        assert all(map(same, found, given_records))
        assert (lost(reader), reader.torn) == (0, 0)
        writer.close()


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_file_systems_take_short_writes(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ``pwrite`` that takes a few bytes at a time still leaves whole records."""
    make_strange(kind, monkeypatch)
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: real(fd, data[:5], offset))
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    for step in range(20):
        assert writer.append(sample(step, 5))
    found, reader = read_all(journal)
    assert steps(found) == list(range(20))
    assert (lost(reader), reader.torn) == (0, 0)
    writer.close()


@pytest.mark.parametrize("kind", STRANGE)
def test_strange_file_systems_take_large_records(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record larger than a segment gets a segment of its size there too."""
    make_strange(kind, monkeypatch)
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    for size in (10, 5 << 20, 10):
        assert writer.append(ConfigRecord(0, 1, {"x": "x" * size}, {}))
    found, reader = read_all(journal, dead=False)
    assert [record.seq for record in found] == [1, 2, 3]
    assert lost(reader) == 0
    assert len(journal.segment_numbers()) < 6
    writer.close()


def test_failing_write_leaves_no_hole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each refused record is counted as dropped and not also as missing; the rest follow on."""
    make_strange("neither", monkeypatch)
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    real = os.pwrite
    failing = False
    calls = 0

    def pwrite(descriptor: int, data: memoryview, offset: int) -> int:
        nonlocal calls
        calls += 1
        if failing and len(data) > 8:
            real(descriptor, data[: calls % 20], offset)  # a part got through
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", pwrite)
    kept = []
    for step in range(200):
        failing = step % 3 == 0
        if writer.append(sample(step, step % 11)):
            kept.append(step)
    assert kept == [step for step in range(200) if step % 3]
    assert writer.scoreboard.dropped_samples == 67
    found, reader = read_all(journal, dead=False)
    assert steps(found) == kept
    assert (lost(reader), reader.torn) == (0, 0)
    assert len(caplog.records) == 1
    writer.close()


def test_directory_removed_under_the_writer(tmp_path: Path) -> None:
    """Nothing is raised, records go on being taken; from the next segment on they are on disk again."""
    with small_segments():
        journal = new_journal(tmp_path)
        writer = JournalWriter(journal)
        for step in range(10):
            assert writer.append(sample(step))
        shutil.rmtree(journal.path)
        for step in range(10, 200):
            assert writer.append(sample(step))
        writer.scoreboard.note_signal(15, 1)
        found, _ = read_all(journal)
        assert steps(found) == list(range(found[0].seq - 1, 200))
        assert journal.path.stat().st_mode & 0o777 == 0o700
        writer.close()


def test_directory_replaced_by_a_file_drops_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever has become of the directory: drops, one warning, and on when it is back."""
    monkeypatch.setattr(writer_module, "RETRY_AFTER", 0.0)
    with small_segments():
        journal = new_journal(tmp_path)
        writer = JournalWriter(journal)
        shutil.rmtree(journal.path)
        journal.path.write_text("in the way")
        kept = sum(writer.append(sample(step)) for step in range(200))
        assert 0 < kept < 200
        assert writer.scoreboard.dropped_samples == 200 - kept
        assert len(caplog.records) == 1
        journal.path.unlink()
        assert writer.append(sample(200))
        writer.close()


@pytest.mark.parametrize("call", ["posix_fallocate", "open"])
def test_no_room_at_the_start_is_an_error_that_names_the_way_out(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that can't even be begun is a JournalError that says which variable to set."""
    journal = new_journal(tmp_path)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(JournalError, match=r"No space left.*Set TRACKSIDE_DIR"):
        JournalWriter(journal)


def test_files_of_a_journal_are_private_under_any_umask(tmp_path: Path) -> None:
    """Mode 0600, every one of them, even under umask 0."""
    before = os.umask(0)
    try:
        with small_segments():
            journal = new_journal(tmp_path)
            writer = JournalWriter(journal)
            for step in range(50):
                writer.append(sample(step))
            writer.close()
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in journal.path.iterdir()}
    assert set(modes.values()) == {0o600}
    assert len(modes) >= 3
