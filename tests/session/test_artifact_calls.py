"""The calls for files on a run, the module and a bus: what is kept, from any thread and process."""

from __future__ import annotations

import json
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import trackside
from tests.parts import journal_of, records_of
from tests.support import recorder
from tests.support.program import run_python
from trackside.event_bus.bus import Bus
from trackside.journal.directory import JournalDirectory
from trackside.journal.format import ArtifactRecord
from trackside.journal.held_content import content_of
from trackside.journal.reader import JournalReader
from trackside.sinks import MemorySink, TransformedSink
from trackside.sinks.described import place_of

if TYPE_CHECKING:
    from trackside.session.run import Run

GENERIC = "no run is started and no sink attached"


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals go to a folder of the test, and no shipper is started."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.setenv("TRACKSIDE_MODE", "offline")
    monkeypatch.chdir(tmp_path)


def kept(journal: JournalDirectory) -> dict[str, str]:
    """The texts in a journal, by their place, in the order of the journal."""
    reader, found = JournalReader(journal), {}
    while batch := reader.read():
        for entry in batch:
            if isinstance(entry.record, ArtifactRecord):
                assert entry.record.held is not None
                found[entry.record.place] = content_of(journal, entry.record.held).read_text("utf-8")
    assert reader.damaged + reader.missing == 0
    reader.close()
    return found


def only_journal() -> JournalDirectory:
    """The journal that a program has left."""
    (path,) = Path("journals").iterdir()
    return JournalDirectory(path.resolve())


# One run


@pytest.mark.wheel
@pytest.mark.outside
def test_every_way_to_call_keeps_the_text() -> None:
    """The module, the run, the bus, and an event of your own. The order is that of the calls."""
    run = trackside.start("x")
    trackside.log_text("module", "a.txt")
    run.log_text("run", "b.txt")
    run.bus.log_text("bus", "c.txt")
    trackside.emit(trackside.artifact_events.TextEvent(text="event", artifact_file="d.txt"))
    run.finish()
    texts = {"a.txt": "module", "b.txt": "run", "c.txt": "bus", "d.txt": "event"}
    assert list(kept(journal_of(run)).items()) == list(texts.items())


def test_metrics_and_files_are_kept_in_one_order() -> None:
    """Also while metrics take the short way past the bus."""
    run = trackside.start("x")
    for step in range(4):
        trackside.log({"loss": 0.5}, step=step)
        trackside.log_text("hello", f"{step}.txt")
    run.finish()
    order = [
        getattr(record, "place", None) or record.step
        for record in records_of(run)
        if hasattr(record, "place") or hasattr(record, "metrics")
    ]
    assert order == [0, "0.txt", 1, "1.txt", 2, "2.txt", 3, "3.txt"]


def test_two_runs_at_once_keep_their_own() -> None:
    """Each on its bus. The module's calls go to the default bus."""
    student, teacher = trackside.start("x"), trackside.start("x", bus=Bus())
    trackside.log_text("student", "a.txt")
    teacher.log_text("teacher", "a.txt")
    teacher.finish()
    student.finish()
    assert [kept(journal_of(run)) for run in (student, teacher)] == [
        {"a.txt": "student"},
        {"a.txt": "teacher"},
    ]


@pytest.mark.parametrize(
    ("name", "given"),
    [
        ("log_artifact", (None,)),
        ("log_artifact", ("/nowhere/at all",)),
        ("log_artifacts", (5,)),
        ("log_text", (None, None)),
        ("log_dict", (object(), "a.json")),
        ("log_image", (None,)),
        ("log_figure", (object(),)),
        ("log_table", (object(), "a.json")),
        ("log_histogram", ("text", "a")),
        ("log_audio", (None, "a")),
        ("log_video", (None, "a")),
        ("log_dataset", (object(),)),
        ("log_checkpoint", ("/nowhere/at all", "x", 5)),
        ("log_model", (object(), None)),
    ],
)
def test_bad_input_never_raises_and_is_said_once(
    name: str, given: tuple[Any, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """The training continues, metrics are kept, and the run's sink stays attached."""
    run = trackside.start("x")
    for step in range(15):
        getattr(run, name)(*given)
        run.log({"loss": 0.5}, step=step)
    run.finish()
    said = [record.getMessage() for record in caplog.records if "is not logged" in record.getMessage()]
    assert len(said) == 1
    assert kept(journal_of(run)) == {}
    assert sum(hasattr(record, "metrics") for record in records_of(run)) == 15


# Runs that keep nothing


def on_another_rank(patch: pytest.MonkeyPatch, **options: Any) -> Run:
    """A run of rank 1."""
    patch.setenv("RANK", "1")
    return trackside.start("x", bus=Bus(), **options)


def when_disabled(patch: pytest.MonkeyPatch, **options: Any) -> Run:
    """A run in disabled mode."""
    patch.setenv("TRACKSIDE_MODE", "disabled")
    return trackside.start("x", bus=Bus(), **options)


@pytest.mark.parametrize("make", [on_another_rank, when_disabled])
def test_a_no_op_run_is_silent_and_keeps_nothing(
    make: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the end and after it. A missing file is not even looked for."""
    run = make(monkeypatch)
    for _ in range(2):
        run.log_text("hello", "hello.txt")
        run.log_artifact("nowhere.txt")
        run.bus.log_text("hello", "hello.txt")
        run.finish()
    assert caplog.records == []
    assert not Path("journals").exists()


def test_the_sinks_of_another_rank_hear_artifacts(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they hear metrics, until the end."""
    memory = MemorySink()
    run = on_another_rank(monkeypatch, sinks=[TransformedSink(memory, {"ranks": [1]})])
    run.log_text("hello", "hello.txt")
    run.finish()
    run.log_text("hello", "later.txt")
    assert [place_of(event) for event in memory.artifacts] == ["hello.txt"]


# After the end


def test_a_run_that_has_ended_keeps_nothing_more_and_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """The next run on its bus gets none of it."""
    first = trackside.start("x")
    first.finish()
    second = trackside.start("x")
    for _ in range(3):
        first.log_text("hello", "late.txt")
        first.log_artifact("nowhere.txt")
    second.log_text("hello", "second.txt")
    second.finish()
    assert caplog.text.count("has ended: what is logged into it from now on is not kept") == 1
    assert kept(journal_of(first)) == {}
    assert kept(journal_of(second)) == {"second.txt": "hello"}


def test_the_module_says_once_that_no_run_is_started(tmp_path: Path) -> None:
    """Before a run, and after its end."""
    script = """
import trackside
trackside.log_text("hello", "early.txt")
trackside.log_image(None, key="early")
run = trackside.start("x")
trackside.log_text("hello", "hello.txt")
run.finish()
trackside.log_text("hello", "late.txt")
"""
    done = run_python("-c", script, cwd=tmp_path, check=True)
    assert done.stderr.count(GENERIC) == 1
    assert kept(only_journal()) == {"hello.txt": "hello"}


# Other threads and processes


def test_threads_lose_nothing() -> None:
    """Eight threads log texts and metrics at once."""
    run = trackside.start("x")

    def work(thread: int) -> None:
        for number in range(25):
            trackside.log_text(f"{thread} {number}", f"{thread}/{number}.txt")
            trackside.log({"loss": 0.5}, step=number)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    run.finish()
    wanted = {f"{thread}/{number}.txt": f"{thread} {number}" for thread in range(8) for number in range(25)}
    assert kept(journal_of(run)) == wanted
    assert sum(hasattr(record, "metrics") for record in records_of(run)) == 200


HANDLER = """
import itertools, signal
import trackside

numbers = itertools.count(1)
number = 0

def log(*_):
    global number
    number = mine = next(numbers)  # one call of C: the handler may interrupt itself
    trackside.log_text(str(mine), f"handler/{mine}.txt")

signal.signal(signal.SIGALRM, log)
with trackside.start("x"):
    signal.setitimer(signal.ITIMER_REAL, 0.002, 0.002)
    for step in range(100_000):
        trackside.log_text(str(step), f"loop/{step}.txt")
        trackside.log({"loss": 0.5}, step=step)
        if number >= 50 and step >= 100:
            break
    signal.setitimer(signal.ITIMER_REAL, 0)
    print(step + 1, next(numbers) - 1)
"""


def test_a_signal_handler_may_log_wherever_it_interrupts(tmp_path: Path) -> None:
    """It logs a text into the middle of the loop's own call, and neither is lost."""
    done = run_python("-c", HANDLER, cwd=tmp_path, check=True, timeout=300)
    steps, number = map(int, done.stdout.split())
    loop = {f"loop/{step}.txt": str(step) for step in range(steps)}
    assert kept(only_journal()) == loop | {f"handler/{one}.txt": str(one) for one in range(1, number + 1)}


KILLED = """
import os, signal
import trackside
trackside.start("x")
for number in range(20):
    trackside.log_text(str(number), f"{number}.txt")
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_logged_survives_sigkill_right_after_the_call(tmp_path: Path) -> None:
    """The record and the file of every call are there."""
    done = run_python("-c", KILLED, cwd=tmp_path)
    assert done.returncode == -signal.SIGKILL
    assert kept(only_journal()) == {f"{number}.txt": str(number) for number in range(20)}


CHILDREN = """
import multiprocessing, sys
import trackside

def work(number, run):
    trackside.log_text("hello", f"module-{number}.txt")
    run.log_text("hello", f"run-{number}.txt")
    run.log_image(None, key="run")
    run.bus.log_text("hello", f"bus-{number}.txt")

if __name__ == "__main__":
    context = multiprocessing.get_context(sys.argv[1])
    with trackside.start("x") as run:
        children = [context.Process(target=work, args=(number, run)) for number in range(2)]
        for child in children:
            child.start()
            child.join()
        trackside.log_text("hello", "parent.txt")
    assert all(child.exitcode == 0 for child in children)
"""


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_child_process_says_once_that_it_keeps_nothing(method: str, tmp_path: Path) -> None:
    """The parent's run is as it was, and no file of the child's stays in its journal."""
    Path("train.py").write_text(CHILDREN)
    done = run_python("train.py", method, cwd=tmp_path, check=True)
    journal = only_journal()
    assert kept(journal) == {"parent.txt": "hello"}
    assert len([*(journal.path / "files").iterdir()]) == 1
    assert done.stderr.count("is not kept: the run belongs to process") == 1
    # What goes into the handle of a spawned child has a warning of its own, in each child.
    handles = done.stderr.count("what you log into a run of another process is not kept")
    assert handles == (2 if method == "spawn" else 0)


DAEMON = """
import os
import trackside
trackside.start("x")
trackside.log_text("hello", "before.txt")
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
trackside.log_text("hello", "after.txt")
"""


def test_a_program_that_becomes_a_daemon_keeps_its_files(tmp_path: Path) -> None:
    """The first call in the daemon is for a file, and continues the run."""
    # The daemon has the pipes too, so this waits for its end.
    done = run_python("-c", DAEMON, cwd=tmp_path, check=True)
    journals = [JournalDirectory(path.resolve()) for path in Path("journals").iterdir()]
    texts = [text for journal in journals for text in kept(journal).items()]
    assert sorted(texts) == [("after.txt", "hello"), ("before.txt", "hello")], done.stderr
    assert "is not kept" not in done.stderr


DELIVERED = """
import trackside
with trackside.start("x", destinations=[{"type": "jsonl", "path": "lines.jsonl"}]) as run:
    trackside.log({"loss": 0.5}, step=1)
    trackside.log_text("hello", "a.txt")
    trackside.log_table([{"a": 1}], "b.json")
    trackside.log({"loss": 0.25}, step=2)
    trackside.log_artifact("train.py")
print(run.delivery.phase)
"""


def test_destinations_without_mlflow_get_artifacts_too(tmp_path: Path) -> None:
    """Each gets all of them, in the order of the calls. The journal goes, and the held files with it."""
    (tmp_path / "train.py").write_text(recorder.IN_A_SCRIPT + DELIVERED)
    environment = {**os.environ, **recorder.environment(tmp_path / "records"), "TRACKSIDE_MODE": "online"}
    done = run_python("train.py", cwd=tmp_path, env=environment, check=True, TRACKSIDE_EXIT_TIMEOUT="300")
    assert done.stdout.split() == ["delivered"], done.stderr
    wanted = [("text", "a.txt"), ("table", "b.json"), ("file", "train.py")]
    found = recorder.only_run(tmp_path / "records").artifacts
    assert [(line["artifact"]["kind"], line["artifact"]["place"]) for line in found] == wanted
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert sorted(line["step"] for line in lines if "loss" in line) == [1, 2]
    places = [line["artifact"]["place"] for line in lines if recorder.is_artifact(line)]
    assert places == [place for _, place in wanted]
    deadline = time.monotonic() + 120
    while [*(tmp_path / "journals").iterdir()]:  # the shipper removes it once the program has ended
        assert time.monotonic() < deadline
        time.sleep(0.05)
