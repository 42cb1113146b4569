"""``trackside status`` and ``trackside sync``: what they print, and with which exit code they leave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner, Result

from tests.support.journals import ALIVE, make, say
from trackside.cli.main import main
from trackside.journal.meta import RunInfo
from trackside.journal.version import FORMAT
from trackside.shipper import inventory as survey
from trackside.shipper import sync as sync_
from trackside.shipper.sync import Synced
from trackside.shipper.sync_progress import SyncProgress

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.journal.directory import JournalDirectory


@pytest.fixture(autouse=True)
def journals(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where journals lie."""
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "journals"


def trackside(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, arguments)


# status


@pytest.mark.wheel
def test_nothing_to_show(journals: Path) -> None:
    """Everything is delivered, which is good news."""
    journals.mkdir()
    result = trackside("status")
    assert (result.exit_code, result.output) == (
        0,
        f"no journals in {journals}. Nothing waits for delivery there.\n",
    )
    assert json.loads(trackside("status", "--json").output) == []


def test_status_as_a_table(journals: Path) -> None:
    """A line a journal, uncut where it is piped. Errors below it; 1 because one waits."""
    running, waiting = make(journals, ALIVE, points=4), make(journals, points=2468)
    say(running, run=RunInfo("a" * 32, "1", "/", None), status="KILLED")
    say(waiting, phase="retrying", error="connection refused [by host]")
    result = trackside("status")
    assert result.exit_code == 1
    for text in (running.name, waiting.name, "a" * 8, "running", "waiting", "KILLED", "2,468", "1m 3"):
        assert text in result.output, text
    assert f"{waiting.name}: connection refused [by host]" in result.output


def test_status_as_json(journals: Path, tmp_path: Path) -> None:
    """The same, for programs. Of another directory where one is named."""
    journals.mkdir()
    journal = make(tmp_path / "elsewhere", ALIVE, points=4, experiment_name="digits")
    assert json.loads(trackside("status", "--json").output) == []
    result = trackside("status", "--json", "--dir", str(tmp_path / "elsewhere"))
    assert result.exit_code == 0
    (found,) = json.loads(result.output)
    assert (found["journal"], found["condition"], found["experiment"]) == (
        str(journal.path),
        "running",
        "digits",
    )
    assert (found["emitted"], found["pending"]) == (4, 4)


def be_refused(journal: JournalDirectory) -> None:
    """Have been refused by the server."""
    say(journal, phase="refused", error="gone")


def be_rejected(journal: JournalDirectory) -> None:
    """Be delivered, but for some points."""
    say(journal, phase="done")
    journal.rejected.write_text("{}\n")


def be_unreadable(journal: JournalDirectory) -> None:
    """Be of tomorrow's version."""
    journal.meta.write_text("{}")


@pytest.mark.parametrize(
    ("act", "condition"),
    [(be_refused, "refused"), (be_rejected, "rejected"), (be_unreadable, "unreadable")],
)
def test_what_somebody_must_look_at(journals: Path, act: Callable[[Any], object], condition: str) -> None:
    """Exit code 1, so that a script can tell."""
    act(make(journals))
    result = trackside("status")
    assert result.exit_code == 1
    assert condition in result.output


# Reading changes nothing


@pytest.mark.parametrize("command", ["status", "sync"])
@pytest.mark.parametrize("how", ["option", "variable"])
def test_a_folder_that_is_not_there(
    command: str, how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelt folder is an error that says what to do, and is not made by looking into it."""
    missing = tmp_path / "misspelt"
    monkeypatch.setenv("TRACKSIDE_DIR", str(missing if how == "variable" else tmp_path))
    result = trackside(command, *(["--dir", str(missing)] if how == "option" else []))
    assert result.exit_code == 2
    assert f"there is no folder {missing}" in result.output
    assert "--dir or TRACKSIDE_DIR" in result.output
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    """Nor is it one where everything is delivered."""
    (tmp_path / "file").touch()
    result = trackside("status", "--dir", str(tmp_path / "file"))
    assert (result.exit_code, "is not a folder" in result.output) == (2, True)


def test_the_default_folder_goes_with_its_last_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So without it there is nothing to do, but a folder that was asked for stays."""
    monkeypatch.delenv("TRACKSIDE_DIR")
    assert trackside("sync").output == "nothing to deliver\n"
    result = trackside("status")
    assert result.exit_code == 0
    assert result.output.startswith(f"no journals here: {tmp_path} has no folder .trackside.")
    assert list(tmp_path.iterdir()) == []
    for name, stays in ((".trackside", False), ("chosen", True)):
        make(tmp_path / name).remove()
        assert (tmp_path / name).exists() == stays


def test_looking_changes_nothing(journals: Path) -> None:
    """Neither a file's content nor its time."""
    say(make(journals, ALIVE, points=4), status="KILLED")
    be_rejected(make(journals, points=2))

    def everything() -> dict[Path, tuple[int, int]]:
        return {p: (p.stat().st_size, p.stat().st_mtime_ns) for p in sorted(journals.rglob("*"))}

    before = everything()
    trackside("status")
    trackside("status", "--json")
    assert everything() == before


@pytest.mark.parametrize("lost", [0, 3_456_789])
def test_the_table_fits_100_columns(journals: Path, lost: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the names and numbers. Each row still says which journal it is."""
    journal = make(journals, points=4, experiment_name="an experiment with a name that goes on for long")
    say(journal, run=RunInfo("a" * 32, "1", "/", None), status="FINISHED")
    found = survey.report(journal)
    assert found is not None
    monkeypatch.setattr(
        survey,
        "report",
        lambda _: msgspec.structs.replace(
            found,
            condition="unreadable",
            emitted=123_456_789_012,
            shipped=999_999,
            dropped=lost,
            rejected=lost,
            age_seconds=359 * 86400 + 23 * 3600,
        ),
    )
    lines = trackside("status").output.splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) == 2, "a row of its own, not wrapped"
    for text in ("unreadable", "FINISHED", "aaaaaaaa", "123.46G", "999,999", "359d 23h", journal.name[-6:]):
        assert text in lines[1], text
    assert ("3.46M" in lines[1]) == ("rejected" in lines[0]) == bool(lost)


# sync


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What becomes of each journal, by its name (``delivered`` unless said), and the options it was given."""
    told: dict[str, Any] = {}

    def sync_journal(journal: JournalDirectory, *, on_progress: Any, **options: Any) -> Synced:
        told["options"] = options
        told["starters"] = {*told.get("starters", ()), options.pop("start").__self__}
        on_progress(SyncProgress(1, 2, 0, 3, 2000))
        return Synced(journal.path, told.get(journal.name, "delivered"), told.get("detail", ""))

    monkeypatch.setattr(sync_, "sync_journal", sync_journal)
    return told


def test_nothing_to_deliver(journals: Path) -> None:
    """Which is no error."""
    journals.mkdir()
    result = trackside("sync")
    assert (result.exit_code, result.output) == (0, "nothing to deliver\n")


def test_sync_delivers_all_that_lie_here(journals: Path, results: dict[str, Any]) -> None:
    """A line each, on stdout. A terminal shows progress bars on stderr, a log has the lines only."""
    names = sorted(make(journals).name for _ in range(2))
    results["detail"] = "4 points"
    result = trackside("sync", "--give-up-after", "7", "--tracking-uri", "http://there:5000")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{name}: delivered (4 points)" for name in names]
    assert result.stderr == ""
    assert results["options"] == {
        "tracking_uri": "http://there:5000",
        "give_up_after": 7.0,
        "importable": (),
    }
    assert len(results["starters"]) == 1, "one process imports MLflow for all of them"


def test_a_silent_server_is_not_waited_for_again(journals: Path, results: dict[str, Any]) -> None:
    """Fourteen journals of a server that is down must not take a quarter of an hour."""
    first, second = (make(journals) for _ in range(2))
    results[min(first.name, second.name)] = "unfinished"
    assert trackside("sync", "--give-up-after", "2m").exit_code == 1
    assert results["options"]["give_up_after"] == 5.0


@pytest.mark.parametrize(
    ("result", "in_passing", "by_name"),
    [
        ("delivered", 0, 0),
        ("running", 0, 1),
        ("busy", 0, 1),
        ("refused", 1, 1),
        ("unfinished", 1, 1),
        ("unreadable", 1, 1),
        ("untrusted", 1, 1),
    ],
)
def test_exit_codes_of_sync(
    journals: Path, results: dict[str, Any], result: str, in_passing: int, by_name: int
) -> None:
    """What is somebody else's to deliver is no failure, unless it was asked for by name."""
    journal = make(journals)
    results[journal.name] = result
    assert trackside("sync").exit_code == in_passing
    assert trackside("sync", "--dir", str(journals)).exit_code == in_passing
    named = trackside("sync", str(journal.path))
    assert (named.exit_code, named.stdout) == (by_name, f"{journal.name}: {result}\n")


def test_a_journal_that_is_not_there() -> None:
    """A usage error."""
    result = trackside("sync", "no-such-journal")
    assert result.exit_code == 2
    assert "no-such-journal" in result.output


def test_an_address_that_is_none(journals: Path) -> None:
    """As for ``start()``, the error says what to write instead. Nothing is delivered anywhere."""
    make(journals)
    result = trackside("sync", "--tracking-uri", "localhost:5000")
    assert result.exit_code == 2
    assert "Write http://localhost:5000" in " ".join(result.output.split())


def test_a_journal_of_a_newer_trackside(journals: Path) -> None:
    """It is listed with what to do. It keeps the other journals neither from the table nor from delivery."""
    newer = make(journals, points=4)
    newer.meta.write_text(newer.meta.read_text().replace('"schema":1', '"schema":99'))
    other = make(journals, ALIVE, points=6)
    before = {path.name: path.read_bytes() for path in newer.path.iterdir()}
    result = trackside("status")
    assert result.exit_code == 1
    said = f"meta.json is in journal format 99, and this version of trackside reads formats up to {FORMAT}."
    assert said in " ".join(result.output.split())
    conditions = {one["condition"] for one in json.loads(trackside("status", "--json").output)}
    assert conditions == {"newer format", "running"}
    result = trackside("sync")
    assert f"{newer.name}: newer format ({said}" in result.output
    assert f"{other.name}: running" in result.output
    assert result.exit_code == 1
    assert {path.name: path.read_bytes() for path in newer.path.iterdir()} == before
