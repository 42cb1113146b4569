"""Files on their way to a real MLflow, past deaths, outages and full disks: every hash is right."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.faults.servers import MlflowServer, wait_until

if TYPE_CHECKING:
    from tests.faults.training import Play, Training

pytestmark = pytest.mark.process

SIZE = 60_000_000

LOG = """
import hashlib, pathlib
run = trackside.start("files")
emit(3)
path = pathlib.Path("ckpt.bin")
path.write_bytes(os.urandom({size}))
trackside.log_artifact(path, "weights")
hash = hashlib.sha256(path.read_bytes()).hexdigest()
path.unlink()
trackside.log_text("grüße", "notes/a b ü.txt")
say(hash=hash, run_id=run.run_id)
{end}
"""


def arrived(uri: str, training: Training, folder: Path) -> str:
    """The hash of what the run shows. The store is in ``folder``."""
    client = MlflowClient(uri)
    run_id = training.said["run_id"]
    assert [file.path for file in client.list_artifacts(run_id, "notes")] == ["notes/a b ü.txt"]
    (note,) = folder.rglob("a b ü.txt")  # MLflow 3.6's server takes such a name, but can't send its file
    assert note.read_text() == "grüße"
    found = Path(client.download_artifacts(run_id, "weights/ckpt.bin", str(folder)))
    return hashlib.sha256(found.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    "kind", ["server", pytest.param("folder of the server", marks=pytest.mark.slow), "sqlite"]
)
def test_a_file_arrives_after_the_training_was_killed(play: Play, tmp_path: Path, kind: str) -> None:
    """SIGKILL right after the call, and the original is deleted. All kinds of stores."""
    script = LOG.format(size=3_000_000, end="os.kill(os.getpid(), 9)")
    place = tmp_path / "store"
    place.mkdir()
    if kind == "sqlite":
        uri = new_database(place)
        training = play(script, uri)
        training.end()
        training.wait_until_delivered()
        assert arrived(uri, training, tmp_path) == training.said["hash"]
        return
    with MlflowServer(place, takes_files=kind == "server").running() as server:
        training = play(script, server.url)
        training.end()
        training.wait_until_delivered()
        assert arrived(server.url, training, tmp_path) == training.said["hash"]


@pytest.mark.slow
def test_an_upload_survives_deaths_of_the_shipper_and_the_server(play: Play, tmp_path: Path) -> None:
    """The shipper is killed in its midst, then the server goes away and comes back. Metrics go on."""
    end = """
    wait_for("killed")
    emit(50, start=3)
    run.flush(timeout=1)
    say(counts=run.counts.files._asdict())
    """
    with MlflowServer(tmp_path).running() as server:
        training = play(LOG.format(size=SIZE, end=end.replace("    ", "")), server.url)
        training.wait_to_be_asked("killed")
        wait_until(lambda: _sent(training) > 0 or _delivered(training), 60, training.log)
        training.kill_shipper()
        server.kill()
        training.go("killed")
        training.wait_to_say("counts")
        server.start()
        assert training.end() == 0
        training.wait_until_delivered()
        assert arrived(server.url, training, tmp_path) == training.said["hash"]
        history = MlflowClient(server.url).get_metric_history(training.said["run_id"], "loss")
        assert [point.step for point in history] == [*range(53)]


ROTATE = """
import hashlib, pathlib
run = trackside.start("files")
emit(3)
assert run.flush()
path, hashes = pathlib.Path("ckpt.bin"), {{}}
wait_for("away")
for number in range(9):
    content = os.urandom({size})
    path.with_name("new").write_bytes(content)
    path.with_name("new").rename(path)
    policy = "now" if number < 3 else "latest"
    place = str(number) if number < 3 else "latest"
    run.log_artifact(path, place, policy=policy)
    hashes[place] = hashlib.sha256(content).hexdigest()
path.unlink()
say(hashes=hashes, run_id=run.run_id)
os.kill(os.getpid(), 9)
"""


@pytest.mark.slow
def test_files_that_rotate_faster_than_they_go_out_arrive_after_the_training_was_killed(
    play: Play, tmp_path: Path
) -> None:
    """While the server is away. Of those that need only the newest, that one goes out."""
    with MlflowServer(tmp_path).running() as server:
        training = play(ROTATE.format(size=SIZE // 3), server.url)
        training.wait_to_be_asked("away")
        server.kill()
        training.go("away")
        training.end()
        server.start()
        training.wait_until_delivered(180)
        run_id, hashes = training.said["run_id"], training.said["hashes"]
        root = Path(MlflowClient(server.url).download_artifacts(run_id, "", str(tmp_path)))
        found = {
            path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("ckpt.bin")
        }
        assert found == hashes
        tags = MlflowClient(server.url).get_run(run_id).data.tags
        assert "trackside.files_not_kept" not in tags
        assert "trackside.files_rejected" not in tags


def _sent(training: Training) -> int:
    return max((worker.files.sent for worker in training.state.workers.values()), default=0)


def _delivered(training: Training) -> bool:
    from trackside.journal.cursor import load_cursor

    return bool(load_cursor(training.journal.cursor("mlflow")).files.delivered)


@pytest.mark.slow
def test_the_end_does_not_wait_for_a_server_that_takes_no_files_and_sync_finishes_it(
    play: Play, tmp_path: Path
) -> None:
    """The status is set at once. What waits is named, and delivered once the store takes it."""
    with MlflowServer(tmp_path).running() as server:
        (tmp_path / "artifacts").write_text("a file where the folder of artifacts should be")
        training = play(LOG.format(size=1000, end="run.finish()"), server.url)
        assert training.end() == 0
        assert "not uploaded yet: weights/ckpt.bin" in training.text
        run_id = training.said["run_id"]
        assert MlflowClient(server.url).get_run(run_id).info.status == "FINISHED"
        training.dismiss_shipper()
        (tmp_path / "artifacts").unlink()
        from trackside.shipper.sync import sync_journal

        assert sync_journal(training.journal, tracking_uri=server.url).result == "delivered"
        assert arrived(server.url, training, tmp_path) == training.said["hash"]
