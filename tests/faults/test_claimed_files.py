"""Files that a training rotates, overwrites and leaves open: each arrives as it was, or its loss is named."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.faults.training import Play

pytestmark = pytest.mark.process

TRAIN = """
import hashlib, logging, pathlib, shutil
os.chdir({place!r})
run = trackside.start("files")
run.run_id
hashes = {{}}
for number in range(6):
    folder = pathlib.Path(f"checkpoint-{{number}}")
    folder.mkdir()
    (folder / "model.bin").write_bytes(os.urandom(3_000_000))
    (folder / "state.json").write_text(str(number))
    hashes[folder.name] = hashlib.sha256((folder / "model.bin").read_bytes()).hexdigest()
    run.log_artifacts(folder, folder.name)
    shutil.rmtree(folder)
path = pathlib.Path("last.ckpt")
for number in range(3):
    path.with_name("new").write_bytes(os.urandom(3_000_000))
    path.with_name("new").rename(path)
    hashes[f"last-{{number}}"] = hashlib.sha256(path.read_bytes()).hexdigest()
    run.log_artifact(path, f"last-{{number}}")
path.unlink()
handler = logging.FileHandler("train.log")
handler.stream.write("line\\n" * 100_000)
handler.flush()
run.log_artifact("train.log")
run.log_artifact("missing.bin")
say(hashes=hashes, run_id=run.run_id)
run.finish()
say(not_kept=run.counts.files.not_kept)
"""

OVERWRITE = """
import pathlib
os.chdir({place!r})
run = trackside.start("files")
path = pathlib.Path("same.bin")
path.write_bytes(b"a" * 3_000_000)
run.log_artifact(path)
path.write_bytes(b"b" * 3_000_000)
say(run_id=run.run_id)
run.finish()
"""


@pytest.fixture(params=["the same file system", "another file system"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """The working directory. In memory there is another file system than that of the journal."""
    where = tmp_path if request.param == "the same file system" else "/dev/shm"
    with tempfile.TemporaryDirectory(dir=where) as folder:
        yield Path(folder)


def hash_of(path: Path) -> str:
    """The SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.slow
def test_files_that_rotate_arrive_as_they_were(play: Play, tmp_path: Path, place: Path) -> None:
    """Folders that are removed, files that are replaced, a log that stays open. A missing file is named."""
    uri = new_database(tmp_path)
    training = play(TRAIN.format(place=str(place)), uri)
    assert training.end() == 0
    training.wait_until_delivered()
    client, run_id = MlflowClient(uri), training.said["run_id"]
    root = Path(client.download_artifacts(run_id, "", str(tmp_path)))
    for name, expected in training.said["hashes"].items():
        file = "last.ckpt" if name.startswith("last") else "model.bin"
        assert hash_of(root / name / file) == expected, name
    assert (root / "checkpoint-5" / "state.json").read_text() == "5"
    assert (root / "train.log").read_text() == "line\n" * 100_000
    assert training.said["not_kept"] == 1
    tags = client.get_run(run_id).data.tags
    assert tags["trackside.files_not_kept"] == "1"
    assert "missing.bin" in tags["trackside.end.files_not_kept"]
    assert "missing.bin" in training.text
    assert list(place.rglob(".trackside-*")) == []


def test_a_file_that_is_overwritten_arrives_whole_and_that_is_said(
    play: Play, tmp_path: Path, place: Path
) -> None:
    """As one state or the other, never as a mixture. If it is the later one, a warning says so."""
    uri = new_database(tmp_path)
    training = play(OVERWRITE.format(place=str(place)), uri)
    assert training.end() == 0
    training.wait_until_delivered()
    found = Path(MlflowClient(uri).download_artifacts(training.said["run_id"], "same.bin", str(tmp_path)))
    content = found.read_bytes()
    assert content in {b"a" * 3_000_000, b"b" * 3_000_000}
    assert ("same.bin was written to after it was logged" in training.text) == (content[:1] == b"b")
