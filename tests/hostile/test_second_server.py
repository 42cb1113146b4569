"""Credentials go only to the server that they were set for, never to a second one."""

from __future__ import annotations

import os
import signal
import threading
from typing import TYPE_CHECKING

import mlflow
import pytest
import requests
from mlflow.store.artifact.http_artifact_repo import HttpArtifactRepository
from mlflow.tracking import MlflowClient

import trackside
from tests.faults.fake import until
from tests.parts import journal_of, parts_of
from tests.support.refusing_server import RefusingServer
from trackside.destinations.mlflow import credentials as mlflow_credentials
from trackside.destinations.mlflow.credentials import guard_requests, keep_credentials, keep_credentials_for

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TOKEN = "t0ken-of-the-first-server"


@pytest.fixture
def servers() -> Iterator[tuple[RefusingServer, RefusingServer]]:
    """The first server and the second."""
    both = RefusingServer(), RefusingServer()
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in both]
    for thread in threads:
        thread.start()
    yield both
    for server, thread in zip(both, threads, strict=True):
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def guard(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the shipper does to its process, taken back after the test."""
    monkeypatch.setattr(mlflow_credentials, "_homes", set())
    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", requests.adapters.HTTPAdapter.send)
    prepared = requests.models.PreparedRequest
    monkeypatch.setattr(prepared, "prepare_auth", prepared.prepare_auth)
    guard_requests()
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


def ask(address: str) -> None:
    """As the shipper does, which takes the refusal for an outage."""
    with pytest.raises(mlflow.MlflowException):
        MlflowClient(tracking_uri=address).get_run("0" * 32)


@pytest.mark.usefixtures("guard")
@pytest.mark.parametrize("basic", [False, True])
def test_requests_and_uploads(
    servers: tuple[RefusingServer, RefusingServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    basic: bool,
) -> None:
    """A token, or a user and a password. The second server is sent what its own address carries."""
    if basic:
        monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "me")
        monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", TOKEN)
    else:
        monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    first, second = servers
    keep_credentials([first.address], beside=[second.address])
    file = tmp_path / "note.txt"
    file.write_text("x")
    for server in servers:
        ask(server.address)
        with pytest.raises((requests.HTTPError, mlflow.MlflowException)):
            HttpArtifactRepository(f"{server.address}/api/2.0/mlflow-artifacts/artifacts").log_artifact(
                str(file)
            )
    ask(second.address.replace("//", "//you:yours@"))
    assert len(first.seen) >= 2
    assert {text and text.split()[0] for text in first.seen} == {"Basic" if basic else "Bearer"}
    assert second.seen[:-1] == [None] * (len(second.seen) - 1)
    assert second.seen[-1] == "Basic eW91OnlvdXJz"


@pytest.mark.usefixtures("guard")
@pytest.mark.parametrize("user", ["me", "", ":", "me:"])
def test_an_address_with_half_of_its_credentials(
    servers: tuple[RefusingServer, RefusingServer], monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    """``requests`` uses a name only with a password, and sends the header that MLflow set instead."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    keep_credentials_for([servers[0].address])
    ask(servers[1].address.replace("//", f"//{user}@"))
    assert servers[1].seen == ["Basic bWU6" if user == "me:" else None]


@pytest.mark.usefixtures("guard")
def test_a_plugin_for_credentials(
    servers: tuple[RefusingServer, RefusingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ``MLFLOW_TRACKING_AUTH`` names is asked for the servers only that the credentials are for."""

    def plugin(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Plugin {TOKEN}"
        return request

    monkeypatch.setenv("MLFLOW_TRACKING_AUTH", "plugin")
    keep_credentials_for([servers[0].address])
    for server in servers:
        requests.get(server.address, auth=plugin, timeout=10)
    assert servers[0].seen == [f"Plugin {TOKEN}"]
    assert servers[1].seen == [None]


@pytest.mark.usefixtures("guard")
def test_the_only_server_is_the_one_that_they_were_set_for(
    servers: tuple[RefusingServer, RefusingServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the run itself in a database, the credentials can only be meant for the server beside it."""
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", TOKEN)
    keep_credentials(["sqlite:///mlflow.db", ""], beside=[server.address for server in servers])
    for server in servers:
        ask(server.address)
    assert servers[0].seen == [f"Bearer {TOKEN}"]
    assert servers[1].seen == [None]


def test_a_run_with_a_second_server(
    servers: tuple[RefusingServer, RefusingServer],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The shipper tells only the first who it is, and keeps nothing of what that repeats."""
    first, second = servers
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "MLFLOW_TRACKING_URI": first.address,
        "MLFLOW_TRACKING_TOKEN": TOKEN,
        "TRACKSIDE_START_TIMEOUT": "0.1",
        "TRACKSIDE_EXIT_TIMEOUT": "0.1",
    }.items():
        monkeypatch.setenv(name, value)
    run = trackside.start("secrets", destinations=[{"type": "mlflow", "tracking_uri": second.address}])
    pid = parts_of(run).shipper.pid
    try:
        until(lambda: bool(first.seen and second.seen), timeout=90)
        until(lambda: "Bearer ***" in read_all(journal_of(run).path), timeout=90)
        kept = read_all(journal_of(run).path)
    finally:
        run.finish()
        if pid is not None:
            os.kill(pid, signal.SIGTERM)
    assert set(first.seen) == {f"Bearer {TOKEN}"}
    assert set(second.seen) == {None}
    assert "no such page" in kept
    assert TOKEN not in kept
    assert TOKEN not in caplog.text


def read_all(folder: Path) -> str:
    """Everything in the files there: the state, the log, the journal itself."""
    return "".join(
        path.read_bytes().decode("utf-8", "replace") for path in folder.rglob("*") if path.is_file()
    )
