"""Files and folders that are logged: what the journal holds of them, and what is refused and counted."""

from __future__ import annotations

import errno
import logging
import os
import re
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.sinks.kept import Kept
from trackside.journal.held_content import content_of
from trackside.journal.releasing import entries
from trackside.journal.scoreboard import read_not_kept

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LARGE = 300_000


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path / "journals")
    yield made
    made.close()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with the file ``last.ckpt`` and a folder ``out`` with two files."""
    project = tmp_path / "project"
    (project / "out" / "deep").mkdir(parents=True)
    (project / "last.ckpt").write_bytes(b"x" * LARGE)
    (project / "out" / "a.json").write_bytes(b"{}")
    (project / "out" / "deep" / "b.bin").write_bytes(b"y" * LARGE)
    monkeypatch.chdir(project)
    return project


def content(kept: Kept, record: Any) -> Path:
    """Where the bytes of a record are."""
    return content_of(kept.journal, record.held)


@pytest.mark.parametrize(
    ("folder", "place"), [(None, "last.ckpt"), ("models", "models/last.ckpt"), ("a/b/", "a/b/last.ckpt")]
)
def test_a_file_goes_into_a_folder_of_the_run(kept, project, folder, place):
    """Under its own name, as with mlflow.log_artifact. The path may be relative."""
    kept.bus.log_artifact("last.ckpt", folder, policy="latest")
    record = kept.record()
    assert (record.kind, record.place, record.form, record.policy) == ("file", place, "file", "latest")
    assert (record.held.source, record.held.size) == (str(project / "last.ckpt"), LARGE)
    assert content(kept, record).read_bytes() == b"x" * LARGE


def test_all_files_of_a_folder_go_into_a_folder_of_the_run(kept, project):
    """Not the folder itself, as with mlflow.log_artifacts."""
    kept.bus.log_artifacts(project / "out", "results")
    record = kept.record()
    assert (record.kind, record.place, record.held.size) == ("folder", "results", LARGE + 2)
    assert (content(kept, record) / "deep" / "b.bin").read_bytes() == b"y" * LARGE


def test_a_path_may_lead_up_and_be_of_any_kind(kept, project):
    """What it names is kept. Only the name in the run must not lead out of it."""
    for path in ("out/../last.ckpt", b"last.ckpt", project / "last.ckpt"):
        kept.bus.log_artifact(path)
        assert kept.record().place == "last.ckpt"


BAD: dict[str, tuple[str, tuple[Any, ...], str]] = {
    "a missing file": ("log_artifact", ("nothing.bin",), "there is no file at"),
    "a folder as a file": ("log_artifact", ("out",), r"Use log_artifacts\(\)"),
    "a file as a folder": ("log_artifacts", ("last.ckpt",), r"Use log_artifact\(\)"),
    "a missing folder": ("log_artifacts", ("nothing",), "there is no folder at"),
    "no path": ("log_artifact", (None,), "not NoneType"),
    "a number": ("log_artifacts", (3,), "not int"),
    "an empty path": ("log_artifact", ("",), "can't be the path of a file"),
    "a zero byte": ("log_artifact", ("a\0b",), "can't be the path of a file"),
    "a folder of the run that leads out": ("log_artifact", ("last.ckpt", "../x"), "Remove '..'"),
    "an absolute folder of the run": ("log_artifacts", ("out", "/tmp"), "it is absolute"),
    "a folder of the run that is no text": ("log_artifact", ("last.ckpt", 3), "is a text, not int"),
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_what_cannot_be_kept_is_counted_and_told_once(kept, project, caplog, bad):
    """Nothing is raised, nothing is in the journal, and the reason is there for the run's page."""
    call, arguments, text = bad
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            getattr(kept.bus, call)(*arguments)
    assert kept.records() == []
    assert entries(kept.journal.path) == []
    (message,) = [record.getMessage() for record in caplog.records]
    assert message.endswith("(logged once)")
    count, (reason,) = read_not_kept(kept.journal.scoreboard)
    assert count == 3
    assert re.search(text, message)
    assert re.search(text, reason)


def test_a_policy_that_is_none(kept, project, caplog):
    """The text names those there are."""
    kept.bus.log_artifact("last.ckpt", policy="tomorrow")
    assert "'now', 'latest', 'end'" in caplog.text
    assert entries(kept.journal.path) == []


def test_files_of_a_folder_whose_names_are_refused_are_left_out_and_counted(kept, project, caplog):
    """Each is counted, and the others are kept."""
    (project / "out" / "100%41.txt").write_bytes(b"x")
    (project / "out" / "a#b").write_bytes(b"x")
    kept.bus.log_artifacts("out")
    record = kept.record()
    names = {path.name for path in content(kept, record).rglob("*") if path.is_file()}
    assert names == {"a.json", "b.bin"}
    assert read_not_kept(kept.journal.scoreboard).artifacts == 2
    assert "refuses '#'" in caplog.text


def test_a_name_that_is_no_text_is_refused_and_its_folder_may_have_one(kept, project):
    """Where a path is bytes that no encoding knows, the file is found all the same."""
    folder = os.fsencode(project) + b"/\xff"
    os.mkdir(folder)
    for name in (b"good.bin", b"\xfe.bin"):
        with open(folder + b"/" + name, "wb") as file:
            file.write(b"z" * LARGE)
        kept.bus.log_artifact(folder + b"/" + name)
    record = kept.record()
    assert record.place == "good.bin"
    assert content(kept, record).read_bytes() == b"z" * LARGE
    assert read_not_kept(kept.journal.scoreboard).artifacts == 1


def test_a_deleted_working_directory(kept, project, caplog):
    """A relative path leads nowhere, and an absolute one is as good as ever."""
    gone = project / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()
    kept.bus.log_artifact("last.ckpt")
    kept.bus.log_artifact(project / "last.ckpt")
    assert kept.record().place == "last.ckpt"
    assert "the working directory, which was deleted. Pass an absolute path" in caplog.text


def test_a_full_disk(kept, project, monkeypatch, caplog):
    """A small file that can't be copied is linked. Values that can't be written are counted, and told."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "pwrite", full)
    kept.bus.log_artifact("out/a.json")
    kept.bus.log_text("a text", "a.txt")
    monkeypatch.undo()
    record = kept.record()
    assert record.held.way == "link"
    assert content(kept, record).read_bytes() == b"{}"
    assert read_not_kept(kept.journal.scoreboard).artifacts == 1
    assert "disk is full. Make room" in caplog.text
    assert entries(kept.journal.path) == [record.held.name]


def test_a_cap_on_what_waits(tmp_path, project, caplog):
    """What is over it is counted, and the text names the setting."""
    kept = Kept(tmp_path / "capped", held_files_cap=10)
    kept.bus.log_text("0123456789", "a.txt")
    kept.bus.log_text("0123456789", "b.txt")
    assert kept.record().place == "a.txt"
    assert read_not_kept(kept.journal.scoreboard).artifacts == 1
    assert "TRACKSIDE_HELD_FILES_CAP" in caplog.text
    kept.close()


def test_a_record_that_the_journal_does_not_take_holds_no_file(kept, project, monkeypatch):
    """Its claim is let go, and it is counted."""
    monkeypatch.setattr(kept.writer, "append", lambda _: False)
    kept.bus.log_artifact("last.ckpt")
    assert entries(kept.journal.path) == []
    assert read_not_kept(kept.journal.scoreboard).artifacts == 1


def test_a_removed_journal_is_not_made_again(kept, project, caplog):
    """Nothing is raised, and the text says what happened."""
    kept.journal.remove()
    kept.bus.log_artifact("last.ckpt")
    kept.bus.log_text("x", "a.txt")
    assert not kept.journal.path.exists()
    assert "the journal was removed" in caplog.text


def test_a_forked_child_claims_nothing(kept, project):
    """The run is its parent's."""
    child = os.fork()
    if child == 0:
        kept.writer.abandon()  # as the hooks do
        kept.bus.log_artifact("last.ckpt")
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert entries(kept.journal.path) == []
    kept.bus.log_artifact("last.ckpt")
    assert kept.record().place == "last.ckpt"


def test_nothing_is_claimed_after_the_end(kept, project):
    """Nothing would let go of it afterwards."""
    kept.writer.close()
    kept.bus.log_artifact("last.ckpt")
    assert entries(kept.journal.path) == []


def test_a_signal_handler_may_log_a_file_in_the_midst_of_a_claim(kept, project, monkeypatch):
    """Both are kept."""
    link = os.link
    calls: list[str] = []

    def interrupted(source: str, target: str, **options: Any) -> None:
        if not calls:
            calls.append(source)
            signal.raise_signal(signal.SIGUSR1)
        link(source, target, **options)

    before = signal.signal(signal.SIGUSR1, lambda *_: kept.bus.log_artifact("out/deep/b.bin"))
    monkeypatch.setattr(os, "link", interrupted)
    try:
        kept.bus.log_artifact("last.ckpt")
    finally:
        signal.signal(signal.SIGUSR1, before)
    records = kept.records()
    assert [record.place for record in records] == ["b.bin", "last.ckpt"]
    assert content(kept, records[1]).read_bytes() == b"x" * LARGE


def test_an_exception_thrown_into_a_claim_leaves_nothing_behind(kept, project, monkeypatch):
    """Ctrl-C in the midst of a folder: it is raised, and no claim stays."""

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "link", interrupt)
    with pytest.raises(KeyboardInterrupt):
        kept.bus.log_artifacts("out")
    assert entries(kept.journal.path) == []


def test_each_loss_is_named_up_to_a_limit(kept, project, caplog):
    """A flood of them is counted. The first are there for the run's page."""
    for number in range(200):
        kept.bus.log_artifact(f"missing-{number}.bin")
    count, reasons = read_not_kept(kept.journal.scoreboard)
    assert count == 200
    assert 5 < len(reasons) < 100
    assert "missing-0.bin" in reasons[0]
    assert len(caplog.records) == 101
    assert "not named any more" in caplog.records[-1].getMessage()
