"""The file that names the run a checkpoint directory belongs to."""

from __future__ import annotations

import os
import random
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

from trackside.destinations.mlflow.run_id_file import RUN_ID_FILE, read_run_id_file, write_run_id_file

if TYPE_CHECKING:
    from pathlib import Path

RUN_ID = "0123456789abcdef0123456789abcdef"


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """The directory need not exist before."""
    write_run_id_file(tmp_path / "new" / "checkpoints", RUN_ID)
    assert read_run_id_file(tmp_path / "new" / "checkpoints") == RUN_ID


def test_the_file_holds_the_id_and_nothing_else(tmp_path: Path) -> None:
    """Other tools read it as the bare id, without a newline. No temporary file stays."""
    write_run_id_file(str(tmp_path), "old")
    write_run_id_file(str(tmp_path), RUN_ID)
    assert (tmp_path / RUN_ID_FILE).read_bytes() == RUN_ID.encode()
    assert list(tmp_path.iterdir()) == [tmp_path / RUN_ID_FILE]


def test_the_file_can_be_read_by_whom_the_umask_lets(tmp_path: Path) -> None:
    """A colleague who may read the checkpoints may resume the run."""
    before = os.umask(0o022)
    try:
        write_run_id_file(tmp_path, RUN_ID)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / RUN_ID_FILE).stat().st_mode) == 0o644


def test_no_file_means_no_run(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A first launch is nothing to warn about."""
    assert read_run_id_file(tmp_path) is None
    assert read_run_id_file(tmp_path / "missing") is None
    assert not caplog.records


def test_a_hand_edited_file_may_end_in_a_newline(tmp_path: Path) -> None:
    """Editors and `echo` add one."""
    (tmp_path / RUN_ID_FILE).write_text(f"  {RUN_ID}\n")
    assert read_run_id_file(tmp_path) == RUN_ID


@pytest.mark.parametrize("content", [b"", b"\n", b"two words", b"\xff\xfe\x00", b"../x", b"a" * 999])
def test_a_file_without_a_run_id_is_ignored_with_a_warning(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Damage costs the resumption, not the training."""
    (tmp_path / RUN_ID_FILE).write_bytes(content)
    assert read_run_id_file(tmp_path) is None
    assert len(caplog.records) == 1


def test_a_file_that_cannot_be_read_is_ignored_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A directory in its place stands for every OSError."""
    (tmp_path / RUN_ID_FILE).mkdir()
    assert read_run_id_file(tmp_path) is None
    assert "cannot read the run id" in caplog.text


@pytest.mark.parametrize("bad", ["", "a b", "x\n", "/etc", "a" * 257])
def test_what_is_no_run_id_is_not_written(bad: str, tmp_path: Path) -> None:
    """Else it would be refused at the next launch, with the cause long forgotten."""
    write_run_id_file(tmp_path, RUN_ID)
    with pytest.raises(ValueError, match="not an MLflow run id"):
        write_run_id_file(tmp_path, bad)
    assert read_run_id_file(tmp_path) == RUN_ID


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk raises, and neither the old id nor a temporary file is touched by it."""
    write_run_id_file(tmp_path, RUN_ID)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_run_id_file(tmp_path, "new")
    assert read_run_id_file(tmp_path) == RUN_ID
    assert list(tmp_path.iterdir()) == [tmp_path / RUN_ID_FILE]


def test_a_filesystem_that_syncs_no_directories_is_no_obstacle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network filesystems refuse. The file itself is on the disk by then."""
    real = os.fsync

    def files_only(descriptor: int) -> None:
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(22, "Invalid argument")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", files_only)
    write_run_id_file(tmp_path, RUN_ID)
    assert read_run_id_file(tmp_path) == RUN_ID


WRITE_LOOP = """
import itertools, sys
from trackside.destinations.mlflow.run_id_file import write_run_id_file
for number in itertools.count():
    write_run_id_file(sys.argv[1], ("a" if number % 2 else "b") * (200 if number % 2 else 32))
    if number == 1:
        print("writing", flush=True)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no SIGKILL here")
def test_a_kill_at_any_moment_leaves_a_whole_id(tmp_path: Path) -> None:
    """Processes that do nothing but write are killed at random. Readers see one of the two ids."""
    whole = {"a" * 200, "b" * 32}
    for _ in range(8):
        command = [sys.executable, "-c", WRITE_LOOP, str(tmp_path)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
            assert writer.stdout is not None
            try:
                assert writer.stdout.readline() == b"writing\n"
                until = time.monotonic() + random.uniform(0.001, 0.05)
                while time.monotonic() < until:
                    assert read_run_id_file(tmp_path) in whole
            finally:
                writer.kill()
        assert read_run_id_file(tmp_path) in whole
