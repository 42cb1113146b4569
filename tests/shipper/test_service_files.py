"""Files and the shipper's main thread: what is told, and how it leaves while they wait."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING

import pytest

from tests.faults.fake import raise_if, until
from tests.faults.test_artifacts import Beside
from tests.support.bench import Bench
from trackside.journal.artifact_queue import read_queue
from trackside.journal.cursor import load_cursor
from trackside.journal.format import ArtifactRecord
from trackside.journal.held_files import HeldFiles
from trackside.journal.releasing import entries
from trackside.shipper import trouble
from trackside.shipper.artifacts import ArtifactDelivery
from trackside.shipper.protocol import EXIT_DONE, EXIT_UNFINISHED, SEEN

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.journal.file_counts import FileCounts

pytestmark = pytest.mark.usefixtures("handlers_put_back")


def made(root: Path, *, alive: bool) -> Iterator[tuple[Bench, Beside]]:
    """A bench with a destination that takes files, one of which is logged."""
    destination = Beside()
    destination.name = "mlflow"
    bench = Bench(root, [destination], alive=alive)
    held = HeldFiles(bench.journal).keep_bytes(b"x" * 10)
    bench.writer.append(ArtifactRecord(0, 1, "file", "ckpt.pt", held=held, form="file"))
    bench.emit(5)
    bench.tell("finished", status="FINISHED")
    yield bench, destination
    bench.close()


@pytest.fixture
def living(tmp_path: Path) -> Iterator[tuple[Bench, Beside]]:
    """The training process lives."""
    yield from made(tmp_path, alive=True)


@pytest.fixture
def dead(tmp_path: Path) -> Iterator[tuple[Bench, Beside]]:
    """The training process is dead."""
    yield from made(tmp_path, alive=False)


def test_a_store_that_takes_no_files_is_told_of(
    living: tuple[Bench, Beside], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics and the status are delivered meanwhile. Once it works again, that is told as well."""
    bench, destination = living
    monkeypatch.setattr(trouble, "TELL_AFTER", 0.3)
    down = True
    destination.on_artifact = lambda _record: raise_if(down)
    shipper = bench.shipper()

    def mend_when_told() -> None:
        nonlocal down
        until(lambda: any("has taken no file" in notice for notice in bench.state().notices))
        down = False

    thread = threading.Thread(target=mend_when_told, daemon=True)
    thread.start()
    bench.pipe.send(SEEN)
    monkeypatch.setattr(bench.journal, "remove", lambda: None)
    assert shipper.run() == EXIT_DONE
    thread.join(20)
    told = re.sub(r"\b\d+ s\b", "0 s", "\n".join(bench.state().notices))
    assert "has taken no file for 0 s" in told
    assert "(down). Metrics go on. Files are kept, and are tried again" in told
    assert "has taken nothing" not in told
    assert destination.files == {"ckpt.pt": b"x" * 10}


def test_a_shipper_without_a_trainer_leaves_files_to_the_next_one(dead: tuple[Bench, Beside]) -> None:
    """The status is told, and the journal stays with the file and the list of what waits."""
    bench, destination = dead
    destination.on_artifact = lambda _record: raise_if(True)
    assert bench.shipper(linger=0.2).run() == EXIT_UNFINISHED
    assert bench.state().phase == "artifacts"
    assert [end.status for end, _ in destination.ends][-1] == "FINISHED"
    counts = read_queue(bench.journal.path, "mlflow").counts()
    assert (counts.waiting, counts.bytes_waiting) == (1, 10)
    assert len(entries(bench.journal.path)) == 1
    destination.on_artifact = lambda _record: None
    assert bench.shipper(linger=0.2).run() == EXIT_DONE
    assert destination.files == {"ckpt.pt": b"x" * 10}
    assert not bench.journal.path.exists()


def test_the_last_file_is_in_the_account_that_the_trainer_reads(
    living: tuple[Bench, Beside], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if it is delivered while the shipper counts what waits: the training is not told of a rest."""
    bench, destination = living
    only_files_are_left, counted = threading.Event(), threading.Event()
    destination.on_artifact = lambda _record: until(counted.is_set)
    monkeypatch.setattr(destination, "finish_uploads", only_files_are_left.set)
    count = ArtifactDelivery.counts

    def deliver_after_counting(artifacts: ArtifactDelivery) -> FileCounts:
        found = count(artifacts)
        if only_files_are_left.is_set():
            counted.set()
            until(lambda: artifacts.is_done)
        return found

    monkeypatch.setattr(ArtifactDelivery, "counts", deliver_after_counting)
    bench.pipe.send(SEEN)
    monkeypatch.setattr(bench.journal, "remove", lambda: None)
    assert bench.shipper().run() == EXIT_DONE
    files = load_cursor(bench.journal.cursor("mlflow")).files
    assert (files.is_done, files.delivered, files.waiting) == (True, 1, 0)
