"""Journals of every format are read for ever. What a newer trackside wrote is left as it is."""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from tests.journal.golden.make import EXPECTED, make
from tests.journal.tools import new_journal, sample
from trackside.errors import JournalError
from trackside.journal.cursor import Cursor, load_cursor, save_cursor
from trackside.journal.directory import JournalDirectory
from trackside.journal.family import ParentUnknownError, parent_run_id, parents_first, tell_children
from trackside.journal.files import read_json, write_atomically
from trackside.journal.meta import Meta, State, Target, read_meta
from trackside.journal.owner import this_process
from trackside.journal.progress import Progress
from trackside.journal.reader import JournalReader
from trackside.journal.scoreboard import read_dropped, read_not_kept, read_signals
from trackside.journal.sealing import Sealer
from trackside.journal.version import DOCUMENT_FORMAT, FORMAT, newer_format
from trackside.journal.writer import JournalWriter
from trackside.lifecycle import crash_notes
from trackside.shipper.acknowledged import Acknowledged
from trackside.shipper.dead_letters import RejectedFile
from trackside.shipper.earlier import EarlierAttempts
from trackside.shipper.inventory import living_runs, report
from trackside.shipper.leftovers import leftovers_of
from trackside.shipper.protocol import EXIT_REFUSED
from trackside.shipper.sync import sync_all

if TYPE_CHECKING:
    from collections.abc import Callable

GOLDEN = sorted((Path(__file__).parent / "golden").glob("format-*"))
NEWER = FORMAT + 98


def text_of(value: Any) -> str:
    """For a comparison in which a NaN equals itself."""
    return json.dumps(value, sort_keys=True)


def lacks(read: Any, written: Any, where: str = "") -> list[str]:
    """Where ``read`` differs from ``written``, but for fields that only ``read`` has."""
    if isinstance(written, dict) and isinstance(read, dict):
        names = [name for name in written if name != "schema" or where]
        return [at for name in names for at in lacks(read.get(name), written[name], f"{where}.{name}")]
    if isinstance(written, list) and isinstance(read, list) and len(read) == len(written):
        pairs = enumerate(zip(read, written, strict=True))
        return [at for n, (one, other) in pairs for at in lacks(one, other, f"{where}[{n}]")]
    return [] if text_of(read) == text_of(written) else [where]


@pytest.fixture(params=GOLDEN, ids=lambda path: path.name)
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[JournalDirectory, dict[str, Any]]:
    """A copy of a golden journal, as private as a journal is, and what a reader must find in it."""
    target = tmp_path / "journal"
    target.mkdir(mode=0o700)
    for path in request.param.iterdir():
        copy = Path(shutil.copyfile(path, target / path.name))
        copy.chmod(0o600)
    return JournalDirectory(target), json.loads((target / EXPECTED).read_text("utf-8"))


def test_there_is_a_golden_journal_of_each_format() -> None:
    """Whoever raises the format makes the next one: ``python -m tests.journal.golden.make``."""
    assert [path.name for path in GOLDEN] == [f"format-{number}" for number in range(1, FORMAT + 1)]


def test_the_records_of_a_golden_journal(golden: tuple[JournalDirectory, dict[str, Any]]) -> None:
    """Each record of several segments but the damaged one and the torn one at the end, value by value."""
    journal, expected = golden
    assert len(journal.segment_numbers()) > 1
    reader = JournalReader(journal)
    reader.writer_dead = True
    entries = reader.read()
    assert reader.read() == []
    reader.close()
    assert text_of(msgspec.to_builtins([entry.record for entry in entries])) == text_of(expected["records"])
    assert sum(entry.record.points for entry in entries) == expected["points"]
    counts = {name: expected[name] for name in ("damaged", "missing", "torn")}
    assert {name: getattr(reader, name) for name in counts} == counts


@pytest.mark.parametrize(("name", "kind"), [("meta", Meta), ("state", State), ("cursor-mlflow", Cursor)])
def test_the_documents_of_a_golden_journal(
    golden: tuple[JournalDirectory, dict[str, Any]], name: str, kind: type
) -> None:
    """Each value that was written is what is read, and values that are new since then have a default."""
    journal, expected = golden
    written = expected[name.partition("-")[0]]
    found = read_json(journal.path / f"{name}.json", kind)
    assert found is not None
    assert lacks(json.loads(msgspec.json.encode(found)), written) == []


def test_the_rest_of_a_golden_journal(golden: tuple[JournalDirectory, dict[str, Any]]) -> None:
    """Signals, drops, what was not kept, and dead letters: one that is there already is not added again."""
    journal, expected = golden
    assert [list(seen) for seen in read_signals(journal.scoreboard)] == expected["signals"]
    assert read_dropped(journal.scoreboard) == expected["dropped"]
    # An older training counted none.
    count, reasons = expected.get("not_kept", (0, ()))
    assert read_not_kept(journal.scoreboard) == (count, tuple(reasons))
    before = journal.rejected.read_bytes()
    assert [json.loads(line) for line in before.splitlines()] == expected["rejected"]
    letters = RejectedFile(journal.rejected, "mlflow", after_seq=0)
    known = {letter["seq"] for letter in expected["rejected"]}
    for record in (entry.record for entry in JournalReader(journal).read() if entry.record.seq in known):
        letters.add(record, "again")  # type: ignore[arg-type] # no lifecycle record was rejected
    assert journal.rejected.read_bytes() == before


def test_a_shipper_changes_no_format(golden: tuple[JournalDirectory, dict[str, Any]]) -> None:
    """An older training may get a shipper of this version. It reads the documents that this one leaves."""
    journal, expected = golden
    before = journal.meta.read_bytes()
    Progress(journal).update(phase="shipping")
    Acknowledged(journal, "mlflow").save()
    numbers = journal.segment_numbers()
    Sealer(journal).seal(numbers, newest=max(numbers), writer_dead=True)
    for path in (journal.state, journal.cursor("mlflow")):
        assert json.loads(path.read_bytes())["schema"] == 1
    assert journal.meta.read_bytes() == before
    entries = JournalReader(journal).read()
    assert text_of(msgspec.to_builtins([entry.record for entry in entries])) == text_of(expected["records"])


def test_the_golden_journal_of_this_format_is_what_is_written(tmp_path: Path) -> None:
    """A change of the format needs a new number. This fails for a change that has none."""
    make(tmp_path / "fresh")
    kept = sorted(GOLDEN[-1].glob("*.seg"))
    fresh = [tmp_path / "fresh" / path.name for path in kept]
    assert [path.read_bytes().rstrip(b"\0") for path in fresh] == [
        path.read_bytes().rstrip(b"\0") for path in kept
    ]


@pytest.mark.parametrize("schema", [NEWER, 0, -1, "2.1", None, True, 1.5, [1]])
def test_an_unknown_format_is_a_newer_one(schema: object) -> None:
    """Whatever it is, this version does not know what else has changed."""
    assert newer_format(json.dumps({"schema": schema}).encode()) is not None


@pytest.mark.parametrize("document", ["{}", '{"schema": 1}', "[1]", "3", "{", '"schema"', '{"a": "\\udce9"}'])
def test_what_names_no_format_is_of_the_first(document: str) -> None:
    """Journals were written without one. Damage, and documents of another kind, are told elsewhere."""
    assert newer_format(document.encode()) is None


def meta_of(journal: JournalDirectory, **changes: Any) -> Meta:
    """What a training that has ended says of itself."""
    owner = msgspec.structs.replace(this_process(), pid=2**22 + 7, start_ticks=1)
    target = Target("sqlite:///nowhere.db", run_id="abc", checkpoint_dir="/checkpoints")
    return msgspec.structs.replace(
        Meta(journal.name, owner, target, 0, str(journal.path), 0, folder=journal.path.stat().st_ino),
        **changes,
    )


def restamp(path: Path, schema: object = NEWER) -> None:
    """Have a file say that it is in another format."""
    write_atomically(path, json.dumps({**json.loads(path.read_bytes()), "schema": schema}).encode())


@pytest.fixture
def journal(tmp_path: Path) -> JournalDirectory:
    """A journal that waits for ``sync``, with all its documents."""
    journal = new_journal(tmp_path)
    writer = JournalWriter(journal)
    writer.append(sample(1))
    writer.close()
    write_atomically(journal.meta, msgspec.json.encode(meta_of(journal)))
    Progress(journal)
    save_cursor(journal.cursor("mlflow"), Cursor())
    return journal


NEWER_FILES: dict[str, Callable[[JournalDirectory], Path]] = {
    "meta": lambda journal: journal.meta,
    "state": lambda journal: journal.state,
    "cursor": lambda journal: journal.cursor("mlflow"),
}


@pytest.fixture(params=NEWER_FILES)
def newer(request: pytest.FixtureRequest, journal: JournalDirectory) -> Path:
    """The file of ``journal`` that a newer trackside wrote."""
    path = NEWER_FILES[request.param](journal)
    restamp(path)
    return path


def everything(journal: JournalDirectory) -> dict[str, bytes]:
    """All files and what is in them."""
    return {str(path): path.read_bytes() for path in journal.path.rglob("*") if path.is_file()}


def test_this_version_says_its_format(journal: JournalDirectory) -> None:
    """In all documents of a journal, in dead letters and in notes for other processes."""
    RejectedFile(journal.rejected, "mlflow", after_seq=0).add(sample(1), "too long")
    child = new_journal(journal.path.parent)
    target = Target("sqlite:///nowhere.db", parent_journal=str(journal.path))
    write_atomically(child.meta, msgspec.json.encode(meta_of(child, target=target)))
    tell_children(journal, "abc")
    for path in (journal.state, journal.cursor("mlflow"), journal.rejected, child.parent_note):
        assert json.loads(path.read_bytes())["schema"] == DOCUMENT_FORMAT, path.name
    assert parent_run_id(child.path, meta_of(child, target=target)) == "abc"


def test_a_newer_journal_is_named_and_left_alone(journal: JournalDirectory, newer: Path) -> None:
    """``status`` and ``sync`` name both formats and say what to do. The other journals are not held up."""
    before = everything(journal)
    other = new_journal(journal.path.parent)
    found = report(journal)
    assert found is not None
    assert (found.condition, found.run_id) == ("newer format", "abc")
    assert f"{newer.name} is in journal format {NEWER}" in (found.error or "")
    assert f"formats up to {FORMAT}. Install a newer trackside" in (found.error or "")
    write_atomically(other.meta, b"damaged")
    first, second = sync_all([journal, other], give_up_after=0.1)
    assert (first.result, first.detail) == ("newer format", found.error)
    assert second.result == "unreadable"
    assert parents_first([journal, other]) == [journal, other]
    assert everything(journal) == before


def test_a_newer_run_is_not_reaped(journal: JournalDirectory, newer: Path) -> None:
    """Its training may live: whether it does is what this version can't tell."""
    assert living_runs(journal.path.parent) == {"abc"}
    assert newer.exists()


def test_the_next_attempt_says_that_it_leaves_a_newer_one_alone(
    journal: JournalDirectory, newer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It may belong to the same checkpoints."""
    with caplog.at_level(logging.WARNING, "trackside"):
        assert leftovers_of(journal.path.parent, "/checkpoints", "sqlite:///nowhere.db") == []
    assert str(journal.path) in caplog.text
    assert f"{newer.name} is in journal format {NEWER}" in caplog.text


def test_an_attempt_does_not_wait_for_a_newer_one(journal: JournalDirectory, newer: Path) -> None:
    """Nor does it start a shipper for it."""
    told: list[str] = []
    started: list[object] = []
    later = meta_of(journal, after=(str(journal.path),))
    earlier = EarlierAttempts(later, notice=told.append, start=lambda *shipper: started.append(shipper))
    earlier.deliver()
    earlier.check(lambda: None)
    assert started == []
    assert f"{newer.name} is in journal format {NEWER}" in told[0]


def test_the_training_reads_no_newer_state(
    journal: JournalDirectory, newer: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A shipper of a newer trackside may have been started meanwhile. It is said once."""
    before = newer.read_bytes()
    with caplog.at_level(logging.WARNING, "trackside"):
        for _ in range(2):
            assert read_json(newer, dict) is None
            assert load_cursor(journal.cursor("mlflow")).position.seq == 0
    assert caplog.text.count(f"is in journal format {NEWER}") == 1
    assert newer.read_bytes() == before


def test_a_newer_file_is_not_replaced(journal: JournalDirectory) -> None:
    """Whoever would go on from it refuses to, even where all others have failed to ask."""
    restamp(journal.state)
    restamp(journal.cursor("mlflow"))
    before = everything(journal)
    with pytest.raises(JournalError, match="Install a newer trackside"):
        Progress(journal)
    with pytest.raises(JournalError, match="Install a newer trackside"):
        Acknowledged(journal, "mlflow")
    restamp(journal.meta)
    with pytest.raises(JournalError, match=f"format {NEWER}"):
        JournalReader(journal)
    assert read_meta(journal) is None
    assert everything(journal).keys() == before.keys()


def test_newer_notes_of_other_processes(tmp_path: Path, journal: JournalDirectory) -> None:
    """A parent's note is not read, and says why the parent is unknown. A rank's note is left where it is."""
    restamp(journal.meta)
    child = new_journal(tmp_path)
    target = Target("sqlite:///nowhere.db", parent_journal=str(journal.path))
    with pytest.raises(ParentUnknownError, match=f"format {NEWER}"):
        parent_run_id(child.path, meta_of(child, target=target))
    restamp_note = json.dumps({"schema": NEWER, "run_id": "abc"}).encode()
    write_atomically(child.parent_note, restamp_note)
    assert "parent.json" in (child.why_newer() or "")
    crash_notes.expect_notes(tmp_path, "job")
    path = crash_notes.notes_directory(tmp_path, "job") / "rank-1.json"
    write_atomically(path, json.dumps({"schema": NEWER, "rank": 1, "at_ms": 5}).encode())
    assert crash_notes.read_notes(tmp_path, "job", since_ms=0) == []
    crash_notes.forget_notes(tmp_path, "job", since_ms=0)
    assert path.exists()


def test_newer_dead_letters_stay_and_are_added_to(journal: JournalDirectory) -> None:
    """A line is all that a reader of the file looks at."""
    line = b'{"schema": %d, "destination": "mlflow", "what": "ever"}\n' % NEWER
    write_atomically(journal.rejected, line)
    RejectedFile(journal.rejected, "mlflow", after_seq=0).add(sample(1), "too long")
    first, second = journal.rejected.read_bytes().splitlines(keepends=True)
    assert first == line
    assert json.loads(second)["schema"] == DOCUMENT_FORMAT


def test_a_shipper_leaves_a_newer_journal_alone(journal: JournalDirectory, newer: Path) -> None:
    """It may have been started by an older trackside than the training's, with another interpreter."""
    before = everything(journal)
    command = [sys.executable, "-m", "trackside.shipper", str(journal.path), "--trust"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == EXIT_REFUSED
    assert f"{newer.name} is in journal format {NEWER}" in done.stderr
    after = everything(journal)
    after.pop(str(journal.lock))
    assert after == before
