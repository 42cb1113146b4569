"""Programs that know nothing of trackside, on days when the server is away or the process is killed."""

from __future__ import annotations

import contextlib
import hashlib
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.ends.harness import new_database, wait_until_delivered
from tests.faults.servers import MlflowServer, wait_until
from tests.unchanged.play import PROGRAMS, environment_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mlflow.entities import Run

    from tests.unchanged.conftest import NewDatabase

pytestmark = pytest.mark.process

PATIENCE = 120.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[MlflowServer]:
    """A server of the test's own, to be killed."""
    folder = tmp_path / "server"
    folder.mkdir()
    with MlflowServer(folder).running() as server:
        yield server


@pytest.fixture
def training(server: MlflowServer, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A training that logs 50 steps for each line that it gets."""
    with (
        open(tmp_path / "stderr", "w") as errors,
        subprocess.Popen(
            [sys.executable, str(PROGRAMS / "outage.py")],
            cwd=tmp_path,
            env=environment_of(tmp_path, f"journal+{server.url}"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        yield process
        process.kill()


def say(process: subprocess.Popen[str], line: str) -> str:
    """Have the training go on, and return what it says then."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def first_line(process: subprocess.Popen[str]) -> str:
    """The run's id."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def end_of(process: subprocess.Popen[str]) -> int:
    """The exit code, once the training has nothing more to do."""
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    return process.wait(PATIENCE)


def assert_all_there(run: Run, client: MlflowClient, steps: int) -> None:
    """Every point, the last value of the tag, and the params."""
    history = client.get_metric_history(run.info.run_id, "loss")
    assert [point.step for point in history] == [*range(steps)]
    assert run.data.tags["last step"] == str(steps - 1)
    assert run.data.params["lr"] == "0.1"


def test_a_server_that_is_away_in_the_middle(
    server: MlflowServer, training: subprocess.Popen[str], tmp_path: Path
) -> None:
    """Nothing raises, nothing waits, nothing is lost."""
    run_id = first_line(training)
    say(training, "before")
    server.kill()
    said = [say(training, f"while it is away {number}") for number in range(3)]
    time.sleep(30)
    said += [say(training, "still away")]
    server.start()
    say(training, "after")
    assert end_of(training) == 0
    wait_until_delivered(tmp_path / "journals", PATIENCE)
    client = MlflowClient(server.url)
    run = client.get_run(run_id)
    assert run.info.status == "FINISHED"
    assert_all_there(run, client, 300)
    assert {"part before", "part while it is away 2", "part after"} <= set(run.data.params)
    assert all(float(line.split()[-1]) < 10 for line in said)  # MLflow alone waits for minutes


@pytest.mark.slow
def test_a_server_that_is_away_at_the_end(
    server: MlflowServer, training: subprocess.Popen[str], tmp_path: Path
) -> None:
    """The program leaves with its own exit code, and everything is there once the server is back."""
    run_id = first_line(training)
    say(training, "before")
    server.kill()
    say(training, "away")
    assert end_of(training) == 0
    server.start()
    wait_until_delivered(tmp_path / "journals", PATIENCE)
    client = MlflowClient(server.url)
    run = client.get_run(run_id)
    assert_all_there(run, client, 100)
    assert run.info.status == "FINISHED"


def test_a_server_that_is_away_at_the_beginning(tmp_path: Path) -> None:
    """start_run() fails as it does with MLflow alone, and a warning says why."""
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "outage.py")],
        cwd=tmp_path,
        env={
            **environment_of(tmp_path, "journal+http://127.0.0.1:9"),
            "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 1
    assert "MlflowException: API request to http://127.0.0.1:9" in done.stderr
    assert "a server is needed for that" in done.stderr


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a store without runs."""
    if request.param == "sqlite":
        return new_database(tmp_path)
    make: NewDatabase = request.getfixturevalue("new_postgres")
    return make("killed")


def test_nested_runs_of_a_process_that_is_killed(database: str, tmp_path: Path) -> None:
    """Those that were open have failed, with all that was logged. Those that had ended have ended well."""
    done = subprocess.run(
        [sys.executable, str(PROGRAMS / "nested_and_killed.py")],
        cwd=tmp_path,
        env=environment_of(tmp_path, f"journal+{database}"),
        check=False,
        timeout=PATIENCE,
    )
    assert done.returncode == -signal.SIGKILL
    client = MlflowClient(database)

    def runs() -> dict[str, Run]:
        return {str(run.info.run_name): run for run in client.search_runs(["0"])}

    wait_until(lambda: all(run.info.status != "RUNNING" for run in runs().values()), PATIENCE, runs)
    wait_until_delivered(tmp_path / "journals", PATIENCE)
    ended = {name: run.info.status for name, run in runs().items()}
    failed = dict.fromkeys(["outer", "middle", "inner", "beside"], "FAILED")
    assert ended == {**failed, "done": "FINISHED", "done inside": "FINISHED"}
    inner = runs()["inner"]
    assert len(client.get_metric_history(inner.info.run_id, "m")) == 100
    assert (inner.data.tags["t"], runs()["outer"].data.params) == ("v", {"a": "1"})


def logging_files(server: MlflowServer, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """A training that logs files for each line that it gets."""
    return subprocess.Popen(
        [sys.executable, str(PROGRAMS / "files.py")],
        cwd=folder,
        env={**environment_of(folder, f"journal+{server.url}"), **environment},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )


def files_of(client: MlflowClient, run_id: str, folder: Path) -> dict[str, bytes]:
    """All files of a run."""
    place = Path(client.download_artifacts(run_id, "", str(folder)))
    return {
        path.relative_to(place).as_posix(): path.read_bytes() for path in place.rglob("*") if path.is_file()
    }


@pytest.mark.slow
def test_files_that_are_logged_and_removed_while_the_server_is_away(
    server: MlflowServer, tmp_path: Path
) -> None:
    """They arrive as they were, from a program that is killed right after the call."""
    with logging_files(server, tmp_path, READS="") as training:
        run_id = first_line(training)
        say(training, "before")
        server.kill()
        took = float(say(training, "away"))
        training.kill()
    server.start()
    wait_until_delivered(tmp_path / "journals", PATIENCE)
    found = files_of(MlflowClient(server.url), run_id, tmp_path)
    for word in ("before", "away"):
        large = hashlib.sha256(word.encode()).digest() * 50_000
        assert found[f"large/{word}.bin"] == found[f"folder/{word}/{word}.bin"] == large
        assert found[f"folder/{word}/small.txt"] == found[f"texts/{word}.txt"] == word.encode()
    assert took < 60  # MLflow alone waits for minutes, and raises


def test_a_program_reads_the_files_that_it_has_logged(server: MlflowServer, tmp_path: Path) -> None:
    """Right after the call."""
    with logging_files(server, tmp_path, READS="1") as training:
        first_line(training)
        assert say(training, "a").endswith(" ['texts/a.txt']")
        assert say(training, "b").endswith(" ['texts/a.txt', 'texts/b.txt']")
        assert end_of(training) == 0
