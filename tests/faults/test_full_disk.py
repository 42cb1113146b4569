"""The journal's disk is full when the training ends, which is often why it ends."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.faults.delivery import once_each, steps_of
from tests.faults.servers import wait_until
from tests.faults.training import Training

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.process

SCRIPT = """
run = trackside.start("full")
emit(200)
assert run.flush()
say(run_id=run.run_id)
wait_for("full")
emit(200, start=200)
{end}
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(disk)]
    if shutil.which("mount") is None or subprocess.run(command, check=False, capture_output=True).returncode:
        pytest.skip("this process may not mount a disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk: Path) -> None:
    """To the last byte."""
    with open(disk / "ballast", "ab", buffering=0) as ballast:
        for size in (65536, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    ballast.write(bytes(size))


@pytest.mark.parametrize(
    ("end", "status", "reason"),
    [
        (
            "raise OSError(28, 'No space left on device')",
            "FAILED",
            "OSError: [Errno 28] No space left on device",
        ),
        ("os.kill(os.getpid(), 9)", "FAILED", "died without a word"),
        ("run.finish()", "FINISHED", "finished"),
    ],
)
def test_a_full_disk_at_the_end(tmp_path: Path, disk: Path, end: str, status: str, reason: str) -> None:
    """The status is set and every point is there, though the shipper can write nothing down any more."""
    uri = new_database(tmp_path)
    training = Training(tmp_path, uri, SCRIPT.format(end=end), TRACKSIDE_DIR=str(disk / "journals"))
    client = MlflowClient(uri)
    try:
        training.wait_to_be_asked("full")
        fill(disk)
        training.go("full")
        training.end()
        run_id = training.said["run_id"]
        wait_until(lambda: client.get_run(run_id).info.status == status, 30, lambda: log_of(disk))
        wait_until(lambda: not list((disk / "journals").glob("*/meta.json")), 30, lambda: log_of(disk))
    finally:
        training.abandon()
    assert reason in client.get_run(run_id).data.tags["trackside.end.reason"]
    assert steps_of(client, run_id) == once_each(400)


def room_for(disk: Path, size: int) -> None:
    """Let ``size`` more bytes onto a full disk."""
    ballast = disk / "ballast"
    os.truncate(ballast, ballast.stat().st_size - size)


@pytest.mark.parametrize("room", [0, 4096, 12288, 65536])
def test_a_full_disk_at_the_start(tmp_path: Path, disk: Path, room: int) -> None:
    """One clear error that says what to do, however far it gets, and nothing is left of the attempt."""
    fill(disk)
    room_for(disk, room)
    script = "trackside.start('full')"
    training = Training(tmp_path, new_database(tmp_path), script, TRACKSIDE_DIR=str(disk / "journals"))
    try:
        assert training.end() == 1
    finally:
        training.abandon()
    assert "JournalError: cannot keep the journal in" in training.text
    assert "No space left on device. Set TRACKSIDE_DIR to a directory" in training.text
    assert not list(disk.glob("journals/*"))


def test_a_config_on_a_full_disk_holds_up_nothing(tmp_path: Path, disk: Path) -> None:
    """The points behind it are delivered, and its params. Its document comes when there is room again."""
    uri = new_database(tmp_path)
    script = """
run = trackside.start("full")
emit(20)
assert run.flush()
say(run_id=run.run_id)
wait_for("full")
trackside.emit(trackside.ConfigEvent({"lr": 0.1, "long": "x" * 3000}))
emit(20, start=20)
assert run.flush(60)
say(flushed=True)
wait_for("room")
run.finish()
"""
    training = Training(tmp_path, uri, script, TRACKSIDE_DIR=str(disk / "journals"))
    client = MlflowClient(uri)
    try:
        training.wait_to_be_asked("full")
        fill(disk)
        training.go("full")
        training.wait_to_be_asked("room")
        run_id = training.said["run_id"]
        assert client.get_run(run_id).data.params["lr"] == "0.1"
        assert steps_of(client, run_id) == once_each(40)
        assert not client.list_artifacts(run_id)
        room_for(disk, 1 << 20)
        training.go("room")
        assert training.end() == 0
    finally:
        training.abandon()
    assert [file.path for file in client.list_artifacts(run_id)] == ["config.yaml"]
    assert "config.yaml can't be kept for its upload" in training.text


def test_files_on_a_full_disk_hold_up_nothing_and_are_delivered_or_named(tmp_path: Path, disk: Path) -> None:
    """Nothing is raised. Metrics and what is held go on, pixels and texts are counted and named."""
    uri = new_database(tmp_path)
    script = """
import numpy, pathlib
run = trackside.start("full")
emit(20)
assert run.flush()
say(run_id=run.run_id)
wait_for("full")
pathlib.Path("small.txt").write_text("small")
pathlib.Path("large.bin").write_bytes(bytes(3_000_000))
run.log_artifact("small.txt")
run.log_artifact("large.bin")
run.log_table([{"a": 1}], "rows.json")
run.log_image(numpy.zeros((8, 8), numpy.uint8), key="val/samples", step=1)
run.log_text("text", "notes.txt")
pathlib.Path("large.bin").unlink()
emit(20, start=20)
for _ in range(300):
    if run.counts.shipped == 80 and run.counts.files.delivered == 2:
        break
    time.sleep(0.1)
say(counts=run.counts.files._asdict(), shipped=run.counts.shipped)
wait_for("room")
run.finish()
"""
    training = Training(tmp_path, uri, script, TRACKSIDE_DIR=str(disk / "journals"))
    client = MlflowClient(uri)
    try:
        training.wait_to_be_asked("full")
        fill(disk)
        training.go("full")
        training.wait_to_say("counts")
        assert training.said["shipped"] == 80
        counts = training.said["counts"]
        assert {name: counts[name] for name in ("delivered", "waiting", "not_kept")} == {
            "delivered": 2,
            "waiting": 1,
            "not_kept": 2,
        }
        run_id = training.said["run_id"]
        assert {file.path for file in client.list_artifacts(run_id)} == {"small.txt", "large.bin"}
        room_for(disk, 1 << 20)
        training.go("room")
        assert training.end() == 0
        wait_until(lambda: not list((disk / "journals").glob("*/meta.json")), 60, lambda: log_of(disk))
    finally:
        training.abandon()
    rows = json.loads(Path(client.download_artifacts(run_id, "rows.json", str(tmp_path))).read_text())
    assert rows == {"columns": ["a"], "data": [[1]]}
    assert steps_of(client, run_id) == once_each(40)
    assert "the image 'val/samples' is not logged: there is no room for it" in training.text
    assert "the text 'notes.txt' is not logged: there is no room for it" in training.text


def log_of(disk: Path) -> str:
    """What the shipper wrote, as long as it could."""
    return "\n".join(
        path.read_text() for path in disk.glob("journals/*/*.*") if path.suffix in {".log", ".json"}
    )
