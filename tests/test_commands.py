"""``trackside status`` and ``trackside sync``: what they print, and with which exit code they leave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from tests.test_survey import ALIVE, make, say
from trackside import sync as sync_
from trackside.cli import main
from trackside.commands.status import format_age
from trackside.journal.meta import RunInfo
from trackside.sync import Synced

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
    result = trackside("status")
    assert (result.exit_code, result.output) == (0, f"no journals in {journals}: everything is delivered\n")
    assert json.loads(trackside("status", "--json").output) == []


def test_status_as_a_table(journals: Path) -> None:
    """A line a journal, uncut where it is piped; errors below it; 1 because one waits."""
    running, waiting = make(journals, ALIVE, points=4), make(journals, points=2468)
    say(running, run=RunInfo("a" * 32, "1", "/", None), status="KILLED")
    say(waiting, phase="retrying", error="connection refused [by host]")
    result = trackside("status")
    assert result.exit_code == 1
    for text in (running.name, waiting.name, "a" * 32, "running", "waiting", "KILLED", "2,468", "1m 3"):
        assert text in result.output, text
    assert f"{waiting.name}: connection refused [by host]" in result.output


def test_status_as_json(journals: Path, tmp_path: Path) -> None:
    """The same, for programs; of another directory where one is named."""
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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (59.9, "59s"), (60, "1m"), (90, "1m 30s"), (3600, "1h"), (3661, "1h 1m"), (90000, "1d 1h")],
)
def test_ages(seconds: float, text: str) -> None:
    """The two largest units."""
    assert format_age(seconds) == text


# sync


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What becomes of each journal, by its name (``delivered`` unless said), and the options it was given."""
    told: dict[str, Any] = {}

    def sync_journal(journal: JournalDirectory, *, on_progress: Any, **options: Any) -> Synced:
        told["options"] = options
        on_progress(1, 2)
        return Synced(journal.path, told.get(journal.name, "delivered"), told.get("detail", ""))

    monkeypatch.setattr(sync_, "sync_journal", sync_journal)
    return told


def test_nothing_to_deliver() -> None:
    """Which is no error."""
    result = trackside("sync")
    assert (result.exit_code, result.output) == (0, "nothing to deliver\n")


def test_sync_delivers_all_that_lie_here(journals: Path, results: dict[str, Any]) -> None:
    """A line each, on stdout; the progress bar is on stderr."""
    names = sorted(make(journals).name for _ in range(2))
    results["detail"] = "4 points"
    result = trackside("sync", "--give-up-after", "7", "--tracking-uri", "http://there:5000")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [f"{name}: delivered (4 points)" for name in names]
    assert results["options"] == {"tracking_uri": "http://there:5000", "give_up_after": 7.0}


@pytest.mark.parametrize(
    ("result", "in_passing", "by_name"),
    [
        ("delivered", 0, 0),
        ("running", 0, 1),
        ("busy", 0, 1),
        ("refused", 1, 1),
        ("unfinished", 1, 1),
        ("unreadable", 1, 1),
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
    """As for ``start()``, the error says what to write instead; nothing is delivered anywhere."""
    make(journals)
    result = trackside("sync", "--tracking-uri", "localhost:5000")
    assert result.exit_code == 2
    assert "write http://localhost:5000" in " ".join(result.output.split())
