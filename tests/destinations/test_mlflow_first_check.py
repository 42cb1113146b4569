"""What can be held against a run before MLflow is imported, and what is left to the shipper."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import sqlite3
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from trackside.destinations.mlflow import first_check
from trackside.destinations.mlflow.findings import NOTHING, Finding
from trackside.destinations.mlflow.first_check import begin_check
from trackside.journal.meta import Target

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.outside

PATIENT = 60.0


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No credentials and no proxies of the developer's. A busy machine's answers count, however late."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy") or name.startswith("MLFLOW_TRACKING_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("NETRC", raising=False)
    monkeypatch.setattr(first_check, "PATIENCE", PATIENT)


def found(uri: str, **asked: Any) -> Finding:
    """What a first check of ``uri`` finds."""
    return begin_check(Target(uri, **asked))()


# sqlite


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """A database with MLflow's tables, as far as a first check looks at them."""
    path = tmp_path / "a store.db"
    with contextlib.closing(sqlite3.connect(path)) as made, made:
        made.execute("CREATE TABLE experiments (experiment_id INTEGER, name TEXT, lifecycle_stage TEXT)")
        made.execute("CREATE TABLE runs (run_uuid TEXT, lifecycle_stage TEXT)")
        rows = [(0, "Default", "active"), (1, "digits", "active"), (2, "gone", "deleted")]
        made.executemany("INSERT INTO experiments VALUES (?, ?, ?)", rows)
        made.executemany("INSERT INTO runs VALUES (?, ?)", [("abc", "active"), ("old", "deleted")])
    return path


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"experiment_name": "digits"},
        {"experiment_name": "new"},
        {"experiment_id": "1"},
        {"experiment_id": "not a number"},
        {"run_id": "abc", "required_run": True},
        {"run_id": "nowhere"},
    ],
    ids=str,
)
def test_a_database_that_has_what_is_asked_for(database: Path, asked: dict[str, Any]) -> None:
    """An experiment that is new is made, and a run that only the checkpoints name may be missing."""
    assert found(f"sqlite:///{database}", **asked) == NOTHING


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (
            {"experiment_name": "gone"},
            "experiment 'gone' is deleted: restore it (mlflow experiments restore ",
        ),
        ({"experiment_id": "2"}, "--experiment-id 2) or use another name"),
        ({"experiment_id": "7"}, "experiment 7 does not exist there"),
        ({"run_id": "nowhere", "required_run": True}, "run 'nowhere' does not exist there"),
        ({"run_id": "old", "required_run": True}, "run 'old' is deleted: restore it (mlflow runs restore "),
    ],
    ids=str,
)
def test_a_database_that_does_not(database: Path, asked: dict[str, Any], says: str) -> None:
    """The refusal says what to do."""
    for scheme in ("sqlite", "trackside+sqlite"):
        assert says in str(found(f"{scheme}:///{database}", **asked).refusal)


def test_a_locked_database_refuses_nothing(database: Path) -> None:
    """Whoever has the lock, the shipper waits for it."""
    with contextlib.closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert found(f"sqlite:///{database}", experiment_name="gone") == NOTHING


def test_tables_of_another_version_refuse_nothing(tmp_path: Path) -> None:
    """An empty file, and one with other tables: MLflow makes its own, or says what is wrong."""
    (tmp_path / "empty.db").touch()
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as made, made:
        made.execute("CREATE TABLE experiments (id INTEGER)")
    for name in ("empty.db", "other.db"):
        assert found(f"sqlite:///{tmp_path / name}", experiment_name="x") == NOTHING


def test_files_that_are_no_database(tmp_path: Path) -> None:
    """A text, a folder, and a place below a file."""
    (tmp_path / "notes.txt").write_text("not a database\n" * 100)
    says = {
        "notes.txt": "the sqlite file holds something else: name another one",
        "": "check that the sqlite file is a file",
        "notes.txt/mlflow.db": "is a file)",
    }
    for name, text in says.items():
        assert text in str(found(f"sqlite:///{tmp_path / name}").refusal)


def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest folder that exists is the one that counts."""
    uri = f"sqlite:///{tmp_path}/a/b/mlflow.db"
    assert found(uri) == NOTHING
    monkeypatch.setattr(os, "access", lambda path, _mode: path != str(tmp_path))
    assert f"you may not write {tmp_path})" in str(found(uri).refusal)


def test_a_look_makes_nothing(database: Path, tmp_path: Path) -> None:
    """Neither a file, nor a change to one."""
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    found(f"sqlite:///{database}", experiment_name="gone")
    found(f"sqlite:///{tmp_path}/new/mlflow.db", run_id="x", required_run=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


def test_a_driver_that_is_not_installed() -> None:
    """It is named. A scheme that is not known is left to MLflow."""
    says = str(found("mssql+pymssql://host/db").refusal)
    assert says == "the database's driver is not installed: pip install what brings 'pymssql'"
    assert found("mysql+unheard-of://host/db") == NOTHING


# A server


class Server(ThreadingHTTPServer):
    """Answers every request with ``status`` and ``body``, and keeps its path and credentials."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.status, self.body = 200, b"{}"
        self.paths: list[str] = []
        self.credentials: list[str | None] = []
        self.uri = f"http://127.0.0.1:{self.server_port}"

    def answer(self, status: int, body: object) -> None:
        """What it says from now on."""
        self.status = status
        self.body = body if isinstance(body, bytes) else json.dumps(body).encode()


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.paths.append(self.path)
        self.server.credentials.append(self.headers.get("Authorization"))
        self.send_response(self.server.status)
        self.send_header("Content-Length", str(len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, format: str, *_: Any) -> None:  # noqa: A002 - http.server's name for it
        """Keep quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that says what a test has it say."""
    with Server() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.05,))
        thread.start()
        yield made
        made.shutdown()
        thread.join()


def error(code: str) -> dict[str, str]:
    """The body of an MLflow server's error."""
    return {"error_code": code, "message": "of no interest"}


def experiment(stage: str) -> dict[str, Any]:
    """The body that tells of an experiment."""
    return {"experiment": {"experiment_id": "3", "name": "digits", "lifecycle_stage": stage}}


def run(stage: str) -> dict[str, Any]:
    """The body that tells of a run."""
    return {"run": {"info": {"run_id": "abc", "lifecycle_stage": stage}}}


RUN = {"run_id": "abc", "required_run": True}
MISSING = error("RESOURCE_DOES_NOT_EXIST")


@pytest.mark.parametrize(
    ("asked", "status", "body"),
    [
        ({}, 200, experiment("active")),
        ({"experiment_name": "new"}, 404, MISSING),
        ({"run_id": "abc"}, 404, MISSING),
        (RUN, 200, run("active")),
        ({}, 400, error("INVALID_PARAMETER_VALUE")),
    ],
    ids=str,
)
def test_a_server_that_knows_us(server: Server, asked: dict[str, Any], status: int, body: object) -> None:
    """Nothing is held against the run."""
    server.answer(status, body)
    assert found(server.uri, **asked) == NOTHING
    assert len(server.paths) == 1


@pytest.mark.parametrize(
    ("asked", "status", "body", "says"),
    [
        (
            {},
            401,
            b"who are you?",
            "the credentials are refused (HTTP 401: who are you?): check MLFLOW_TRACKING_",
        ),
        ({}, 403, error("PERMISSION_DENIED"), "the credentials are refused (HTTP 403: "),
        ({}, 200, experiment("deleted"), "experiment 'digits' is deleted: restore it"),
        ({"experiment_id": "9"}, 404, MISSING, "experiment 9 does not exist there"),
        (RUN, 404, MISSING, "run 'abc' does not exist there"),
        (RUN, 200, run("deleted"), "run 'abc' is deleted: restore it"),
    ],
    ids=str,
)
def test_a_server_that_refuses(
    server: Server, asked: dict[str, Any], status: int, body: object, says: str
) -> None:
    """The refusal says what to do."""
    server.answer(status, body)
    assert says in str(found(server.uri, **asked).refusal)


@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (500, error("INTERNAL_ERROR"), "HTTP 500"),
        (503, b"back soon", "HTTP 503"),
        (200, b"<html>Log in</html>", "a login page or a proxy in between"),
        (302, b"", "a login page or a proxy in between"),
        (404, b"no such page", "a login page or a proxy in between"),
        (200, b"[" * 50_000, "a login page or a proxy in between"),
    ],
)
def test_a_server_in_trouble_refuses_nothing(server: Server, status: int, body: object, says: str) -> None:
    """It may be well in a minute, and the user is told by then."""
    server.answer(status, body)
    result = found(server.uri)
    assert result.refusal is None
    assert says in str(result.trouble)


def test_no_server_at_the_address() -> None:
    """Which is trouble, not a refusal: the training starts, and the server may be back later."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert found(f"http://127.0.0.1:{port}") == Finding(trouble=f"connection refused (127.0.0.1:{port})")


def test_a_server_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not waited for, nothing is held against it, and the thread that asked ends by itself."""
    monkeypatch.setattr(first_check, "PATIENCE", 0.2)
    before = set(threading.enumerate())
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert found(f"http://127.0.0.1:{silent.getsockname()[1]}") == NOTHING
        for thread in set(threading.enumerate()) - before:
            thread.join(PATIENT)
    assert set(threading.enumerate()) <= before


def test_the_credentials_are_those_that_mlflow_sends(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The token, else the name and password, else those of the address."""

    def basic(text: str) -> str:
        return "Basic " + base64.b64encode(text.encode()).decode()

    found(server.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "t0ken")
    found(server.uri)
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "pass")
    found(server.uri + "/mlflow/")
    found(server.uri.replace("//", "//you:w%40rd@"))
    assert server.credentials == [None, "Bearer t0ken", basic("me:pass"), basic("you:w@rd")]
    assert server.paths[2].startswith(
        "/mlflow/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MLFLOW_TRACKING_AUTH", "a-plugin"),
        ("MLFLOW_TRACKING_AWS_SIGV4", "true"),
        ("MLFLOW_WORKSPACE", "team"),
        ("http_proxy", "http://127.0.0.1:9"),
    ],
)
def test_what_only_mlflow_can_ask_is_left_to_it(
    server: Server, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """A plain request would be refused where MLflow's is not."""
    server.answer(401, b"")
    monkeypatch.setenv(name, value)
    monkeypatch.setenv("no_proxy", "")
    assert found(server.uri) == NOTHING
    assert not server.paths


def test_a_password_is_not_repeated(server: Server) -> None:
    """Whatever the server quotes."""
    server.answer(401, b"no user you with password s3cr3t-word")
    uri = server.uri.replace("//", "//you:s3cr3t-word@")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        assert "s3cr3t" not in str(found(uri).refusal)


def test_no_thread_to_be_had(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """The question is left out."""

    class Refused(threading.Thread):
        def start(self) -> None:
            raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading, "Thread", Refused)
    assert found(server.uri) == NOTHING


@pytest.mark.parametrize(("module", "uri"), [("sqlite3", "sqlite:///x.db"), ("http", "http://127.0.0.1:9")])
def test_a_module_of_the_users_is_not_run(
    module: str, uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with the name of Python's: nothing is looked at."""
    (tmp_path / f"{module}.py").write_text("raise RuntimeError('the wrong one')")
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in [name for name in sys.modules if name.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "trackside.destinations.mlflow.sqlite_check", raising=False)
    monkeypatch.delitem(sys.modules, "trackside.destinations.mlflow.server_check", raising=False)
    assert found(uri, run_id="nowhere", required_run=True) == NOTHING
