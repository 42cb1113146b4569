"""Closing the runs of machines that vanished, by their heartbeat: an MLflow store is enough for that."""

from __future__ import annotations

import re
import time
from datetime import datetime, timezone
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database
from tests.support.journals import ALIVE, DEAD, make, say
from trackside.cli.main import main
from trackside.cli.options import Duration
from trackside.destinations.mlflow import reaper as mlflow_reaper
from trackside.destinations.mlflow.owner import parse_heartbeat
from trackside.destinations.mlflow.reaper import stale_runs
from trackside.journal.meta import RunInfo
from trackside.tag_names import HEARTBEAT_TAG

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import Run

HOUR = 3600.0


class Store:
    """An MLflow store with runs that show RUNNING."""

    def __init__(self, uri: str) -> None:
        self.client = MlflowClient(uri)
        self.uri = uri

    def run(self, silent_for: float | None, *, host: str = "vanished", experiment: str = "0") -> str:
        """One whose last heartbeat was that many seconds ago, or that never had any. Its id."""
        run_id = str(self.client.create_run(experiment).info.run_id)
        if silent_for is not None:
            moment = datetime.fromtimestamp(time.time() - silent_for, tz=timezone.utc)
            self.client.set_tag(run_id, HEARTBEAT_TAG, f"{moment.isoformat(timespec='seconds')} {host}")
        return run_id

    def get(self, run_id: str) -> Run:
        """The run as it is now."""
        return self.client.get_run(run_id)

    def status(self, run_id: str) -> str:
        """Its status as it is now."""
        return str(self.get(run_id).info.status)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """An empty one, which the environment names."""
    uri = new_database(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    monkeypatch.setenv("TRACKSIDE_DIR", str(tmp_path / "journals"))
    monkeypatch.chdir(tmp_path)
    return Store(uri)


def reap(*options: str) -> tuple[int, str]:
    """``trackside reap``: exit code and output."""
    result = CliRunner().invoke(main, ["reap", *options])
    return result.exit_code, result.output


def test_a_run_that_fell_silent_is_closed(store: Store) -> None:
    """As KILLED, as of its last heartbeat, with the reason. In any experiment."""
    experiment = store.client.create_experiment("other")
    stale = [store.run(2 * HOUR), store.run(HOUR, experiment=experiment)]
    code, output = reap()
    assert code == 0
    for run_id in stale:
        assert f"closed {run_id}" in output
        assert store.status(run_id) == "KILLED"
    assert "on vanished, silent for 2h" in output
    run = store.get(stale[0])
    assert abs(run.info.end_time / 1000 - (time.time() - 2 * HOUR)) < 60
    reason = run.data.tags["trackside.end.reason"]
    assert re.fullmatch(r"machine vanished vanished: no heartbeat for 2h( \d+s)? \(reaped\)", reason), reason
    assert abs(float(run.data.tags["trackside.end.heartbeat_age_s"]) - 2 * HOUR) < 60
    assert reap() == (0, "no run has lost its heartbeat\n")


def test_runs_that_are_left_alone(store: Store, tmp_path: Path) -> None:
    """Fresh ones, those trackside did not make, those that ended, and those whose process lives here."""
    fresh, foreign, ended, local, dead = (
        store.run(60),
        store.run(None),
        store.run(HOUR),
        store.run(HOUR),
        store.run(HOUR),
    )
    store.client.set_terminated(ended, "FINISHED")
    garbled = store.run(None)
    store.client.set_tag(garbled, HEARTBEAT_TAG, "long ago")
    for owner, run_id in ((ALIVE, local), (DEAD, dead)):
        say(make(tmp_path / "journals", owner), run=RunInfo(run_id, "0", "/", None))
    code, output = reap()
    assert code == 0
    assert [store.status(run_id) for run_id in (fresh, foreign, garbled, local)] == ["RUNNING"] * 4
    assert store.status(ended) == "FINISHED"
    assert store.status(dead) == "KILLED"
    assert output.count("closed") == 1


def test_a_dry_run_changes_nothing(store: Store) -> None:
    """It says what would be closed, for the length of silence that is asked for."""
    old, older = store.run(HOUR), store.run(3 * HOUR)
    code, output = reap("--dry-run", "--older-than", "2h")
    assert (code, store.status(older)) == (0, "RUNNING")
    assert f"would close {older}" in output
    assert old not in output
    assert HEARTBEAT_TAG in store.get(older).data.tags
    assert "trackside.end.reason" not in store.get(older).data.tags


def test_a_run_that_cannot_be_closed(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is said, the others are closed, and the exit code tells."""
    from mlflow.exceptions import MlflowException

    runs = [store.run(HOUR) for _ in range(2)]
    close_run = mlflow_reaper.close_run

    def close(client: MlflowClient, stale: mlflow_reaper.StaleRun) -> None:
        if stale.run_id == runs[0]:
            raise MlflowException("permission denied")
        close_run(client, stale)

    monkeypatch.setattr(mlflow_reaper, "close_run", close)
    code, output = reap()
    assert code == 1
    assert f"could not close {runs[0]}" in output
    assert "permission denied" in output
    assert [store.status(run_id) for run_id in runs] == ["RUNNING", "KILLED"]


def test_a_server_that_is_not_there(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, exit code 1."""
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    code, output = reap("--tracking-uri", "http://127.0.0.1:9")
    assert code == 1
    assert output.startswith("Error: MLflow does not answer: ")


def test_many_runs_come_in_pages(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them are looked at."""
    monkeypatch.setattr(mlflow_reaper, "_PAGE", 2)
    runs = {store.run(HOUR) for _ in range(5)}
    found = stale_runs(store.client, older_than=600)
    assert {stale.run_id for stale in found} == runs
    spared = runs.pop()
    assert {stale.run_id for stale in stale_runs(store.client, older_than=600, alive=[spared])} == runs


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("2023-11-14T22:13:20+00:00 host", (1_700_000_000.0, "host")),
        ("2023-11-14T23:13:20+01:00 host name", (1_700_000_000.0, "host name")),
        ("2023-11-14T22:13:20", (1_700_000_000.0, "")),
        ("", None),
        ("yesterday host", None),
    ],
)
def test_heartbeats(text: str, parsed: tuple[float, str] | None) -> None:
    """Time and host. One without a zone is UTC. What is none is none."""
    assert parse_heartbeat(text) == parsed


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("10m", 600.0),
        ("2h", 7200.0),
        ("1d", 86400.0),
        ("1.5 h", 5400.0),
        ("45", 45.0),
        (5, 5.0),
    ],
)
def test_durations(text: str | int, seconds: float) -> None:
    """A number and a unit. Seconds without one."""
    assert Duration()(text) == seconds


@pytest.mark.parametrize("text", ["soon", "-5m", "10 weeks", ""])
def test_what_is_no_duration(text: str) -> None:
    """A usage error that shows the forms there are."""
    code, output = reap("--older-than", text)
    assert code == 2
    assert "is not a duration. Write 90s, 10m, 2h or 1d" in output


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("mlflow.db", None, "no {place}/mlflow.db"),
        ("mlflow.db", b"", "{place}/mlflow.db is not an MLflow database"),
        ("mlflow.db", b"no database at all, but more than a hundred bytes of text" * 9, "is not an MLflow"),
        ("mlruns", None, "no {place}/mlruns"),
    ],
)
def test_a_store_that_is_not_there(
    name: str, content: bytes | None, complaint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error that says what to do. Nothing is made, and what is there stays as it is."""
    monkeypatch.chdir(tmp_path)
    place = tmp_path / name
    if content is not None:
        place.write_bytes(content)
    uri = f"sqlite:///{name}" if name.endswith(".db") else name
    result = CliRunner().invoke(main, ["reap", "--dry-run", "--tracking-uri", uri])
    assert result.exit_code == 2
    assert complaint.format(place=tmp_path) in result.output
    assert "--tracking-uri or MLFLOW_TRACKING_URI" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ([] if content is None else [name])
    assert content is None or place.read_bytes() == content


def test_looking_leaves_the_store_as_it_was(store: Store, tmp_path: Path) -> None:
    """A dry run writes nothing, in the database or beside it."""
    store.run(HOUR)
    before = {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()}
    assert CliRunner().invoke(main, ["reap", "--dry-run"]).exit_code == 0
    assert {path: path.read_bytes() for path in sorted(tmp_path.rglob("*")) if path.is_file()} == before
