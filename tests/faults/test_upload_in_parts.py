"""Large files in parts: what the server is asked for, what the store gets, and what is taken back."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from trackside.destinations.mlflow.rest_client import RestClient
from trackside.destinations.mlflow.rest_session import RestSession
from trackside.destinations.mlflow.tracking import Run, RunDescription
from trackside.destinations.mlflow.upload_in_parts import PartsUploader
from trackside.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Store(ThreadingHTTPServer):
    """An MLflow server and the store behind it, in one. ``failures``: how many parts it refuses."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.parts: dict[str, bytes] = {}
        self.credentials: list[str | None] = []
        self.asked: list[tuple[str, Any]] = []
        self.failures = 0
        self.offers = True


class _Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        self._answer({"multipart_uploads_enabled": self.server.offers})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        urls = range(1, body.get("num_parts", 0) + 1)
        found = [{"url": f"{self.server.url}/part/{n}", "part_number": n} for n in urls]
        self._answer({"upload_id": "u", "credentials": found} if found else {})

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.credentials.append(self.headers.get("Authorization"))
        self.server.failures -= 1
        if self.server.failures >= 0:
            self.send_error(503)
            return
        self.server.parts[self.path] = data
        self._answer({}, ETag=f"tag{self.path[-1]}")

    def _answer(self, body: Any, **headers: str) -> None:
        data = json.dumps(body).encode()
        self.send_response(200)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """A store that takes parts of 10 bytes."""
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", "20")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", "10")
    monkeypatch.setenv("MLFLOW_TRACKING_TOKEN", "secret")
    with Store() as made:
        threading.Thread(target=made.serve_forever, daemon=True).start()
        yield made
        made.shutdown()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of 25 bytes."""
    path = tmp_path / "ckpt.pt"
    path.write_bytes(bytes(range(25)))
    return path


def test_each_part_goes_to_an_address_of_its_own(store: Store, source: Path) -> None:
    """In full, without credentials for MLflow. One that fails is sent again."""
    store.failures = 1
    sent: list[int] = []
    parts = PartsUploader(RestSession(store.url))
    assert [parts.takes(19), parts.takes(25)] == [False, True]
    assert parts.upload(source, 25, "1/run/artifacts/w/ckpt.pt", sent.append)
    assert b"".join(store.parts[f"/part/{n}"] for n in (1, 2, 3)) == source.read_bytes()
    assert set(store.credentials) == {None}
    assert sent == [10, 10, 5]
    (create, asked), (complete, told) = store.asked
    assert create.endswith("mpu/create/1/run/artifacts/w")
    assert asked == {"path": "ckpt.pt", "num_parts": 3}
    assert complete.endswith("mpu/complete/1/run/artifacts/w")
    assert [(part["part_number"], part["etag"]) for part in told["parts"]] == [
        (1, "tag1"),
        (2, "tag2"),
        (3, "tag3"),
    ]


def test_a_file_keeps_its_name(store: Store, source: Path) -> None:
    """The address of the folder is quoted. The name stands in the body, so it is not."""
    run = Run(RunDescription("run", artifact_uri="mlflow-artifacts:/1/run/artifacts"))
    RestClient(store.url).upload_file(run, source, "my models/epoch=3 é.ckpt")
    assert [path.partition("/mpu/")[2] for path, _ in store.asked] == [
        "create/1/run/artifacts/my%20models",
        "complete/1/run/artifacts/my%20models",
    ]
    assert [body["path"] for _, body in store.asked] == ["epoch=3 é.ckpt"] * 2


def test_an_upload_that_fails_is_taken_back(store: Store, source: Path) -> None:
    """So that the store keeps nothing of it. The file is tried again later."""
    store.failures = 1000
    with pytest.raises(RetryableError, match="503"):
        PartsUploader(RestSession(store.url)).upload(source, 25, "1/w/ckpt.pt", lambda _sent: None)
    assert [path.split("/")[5] for path, _ in store.asked] == ["create", "abort"]


def test_a_server_that_does_not_offer_it_is_not_asked_for_it(store: Store) -> None:
    """An older one has no word for it."""
    store.offers = False
    assert not PartsUploader(RestSession(store.url)).takes(25)
