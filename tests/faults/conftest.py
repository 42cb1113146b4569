"""One real MLflow server for all tests of this folder, and a proxy in front of it for each."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from mlflow.tracking import MlflowClient

from tests.faults.fake import Rig
from tests.faults.proxy import FaultProxy
from tests.faults.servers import MlflowServer
from tests.faults.training import Play, Training

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def shared_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A stock server. Use ``server``, which sees to it that it runs."""
    with MlflowServer(tmp_path_factory.mktemp("server")).running() as server:
        yield server


@pytest.fixture
def server(shared_server: MlflowServer) -> MlflowServer:
    """A running server, also after a test that killed it."""
    shared_server.start()
    return shared_server


@pytest.fixture
def proxy(server: MlflowServer) -> Iterator[FaultProxy]:
    """A faultless proxy to the server."""
    proxy = FaultProxy(server.address)
    yield proxy
    proxy.close()


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a destination made in this process sets is taken back. Requests give up soon."""
    for name in list(os.environ):
        if name.startswith(("MLFLOW_HTTP", "MLFLOW_SUPPRESS")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "")  # set, so that it is taken back
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
    monkeypatch.setenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")


@pytest.fixture
def journals(tmp_path: Path) -> Path:
    """Where this test's journals lie."""
    return tmp_path / "journals"


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    """A journal and a worker that was not started yet."""
    rig = Rig(tmp_path)
    yield rig
    rig.close()


@pytest.fixture
def client(server: MlflowServer) -> MlflowClient:
    """Reads what arrived, past the proxy."""
    return MlflowClient(server.url)


@pytest.fixture
def play(proxy: FaultProxy, tmp_path: Path) -> Iterator[Play]:
    """Starts training scripts against the proxy. The experiment is named by the test's folder."""
    started: list[Training] = []

    def start(script: str, uri: str = proxy.url, **environment: str) -> Training:
        name = {"MLFLOW_EXPERIMENT_NAME": tmp_path.name}
        started.append(Training(tmp_path, uri, script, **{**name, **environment}))
        return started[-1]

    yield start
    for training in started:
        training.abandon()
