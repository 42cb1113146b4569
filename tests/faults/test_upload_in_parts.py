"""Large files in parts: what the server is asked for, what the store gets, and what is taken back."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trackside.destinations.mlflow import begun_uploads
from trackside.destinations.mlflow.begun_uploads import BegunUploads
from trackside.destinations.mlflow.errors import AnswerError
from trackside.destinations.mlflow.file_body import HashedPart
from trackside.destinations.mlflow.rest_client import RestClient
from trackside.destinations.mlflow.rest_session import RestSession
from trackside.destinations.mlflow.tracking import Run, RunDescription
from trackside.destinations.mlflow.upload_in_parts import PartsUploader, is_checksum_of
from trackside.errors import RetryableError
from trackside.journal.trust import vouch_for, withdraw

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Store(ThreadingHTTPServer):
    """An MLflow server and the store behind it, in one. ``failures``: how many parts it refuses."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.parts: dict[str, bytes] = {}
        self.credentials: list[str | None] = []
        self.asked: list[tuple[str, Any]] = []
        self.failures = 0
        self.status = 503
        self.offers = True
        self.tag: Callable[[bytes], str] = lambda data: f'"{hashlib.md5(data).hexdigest()}"'
        """What it answers for a part."""
        self.lose: Callable[[bytes], bytes] = lambda data: data
        """What it gets of a part."""


class _Handler(BaseHTTPRequestHandler):
    server: Store

    def do_GET(self) -> None:
        self._answer({"multipart_uploads_enabled": self.server.offers})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.asked.append((self.path, body))
        if self.path.endswith("/complete/1/run/artifacts/full"):
            self.send_error(500)
            return
        urls = range(1, body.get("num_parts", 0) + 1)
        found = [{"url": f"{self.server.url}/part/{n}", "part_number": n} for n in urls]
        self._answer({"upload_id": "u", "credentials": found} if found else {})

    def do_PUT(self) -> None:
        data = self.server.lose(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.credentials.append(self.headers.get("Authorization"))
        self.server.failures -= 1
        if self.server.failures >= 0:
            self.send_error(self.server.status)
            return
        self.server.parts[self.path] = data
        self._answer({}, ETag=self.server.tag(data))

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
    store.tag = lambda data: f"tag{data[0] // 10 + 1}"
    sent: list[int] = []
    parts = PartsUploader(RestSession(store.url))
    assert [parts.takes(19), parts.takes(25)] == [False, True]
    assert parts.upload(source, 25, "1/run/artifacts/w/ckpt.pt", sent.append, BegunUploads())
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


def calls(store: Store) -> list[str]:
    """What the server was asked for."""
    return [path.split("/")[5] for path, _ in store.asked]


def upload(
    store: Store, source: Path, uploads: BegunUploads, *, place: str = "1/run/artifacts/ckpt.pt"
) -> bool:
    """As a shipper does it that has begun ``uploads``."""
    return PartsUploader(RestSession(store.url)).upload(source, 25, place, lambda _sent: None, uploads)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where a shipper has its notes."""
    return tmp_path / "begun"


@pytest.fixture
def uploads(folder: Path) -> BegunUploads:
    """What one shipper has begun."""
    return BegunUploads(folder)


def interrupt(store: Store, source: Path, uploads: BegunUploads) -> None:
    """Have an upload fail behind its second part."""

    def tag(data: bytes) -> str:
        store.failures = 1000 if data[0] == 10 else 0
        return "tag"

    store.tag = tag
    with pytest.raises(RetryableError, match="503"):
        upload(store, source, uploads)
    store.failures = 0
    store.tag = lambda _data: "later"


def test_an_upload_that_is_interrupted_goes_on(
    store: Store, source: Path, folder: Path, uploads: BegunUploads
) -> None:
    """With the part that is missing. Then nothing is noted any more."""
    interrupt(store, source, uploads)
    before = store.parts.copy()
    store.parts.clear()
    assert upload(store, source, uploads)
    assert [*before, *store.parts] == ["/part/1", "/part/2", "/part/3"]
    assert calls(store) == ["create", "complete"]
    told = store.asked[-1][1]
    assert [part["etag"] for part in told["parts"]] == ["tag", "tag", "later"]
    assert not [*folder.iterdir()]


def test_no_address_of_a_part_reaches_the_disk(
    store: Store, source: Path, folder: Path, uploads: BegunUploads
) -> None:
    """Whoever has one may write there. Others may not even read the notes."""
    interrupt(store, source, uploads)
    (note,) = folder.iterdir()
    assert b"/part/" not in note.read_bytes()
    assert note.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("change", ["the file", "the time", "the shipper"])
def test_what_is_not_gone_on_with_is_taken_back(  # noqa: PLR0917 - fixtures
    store: Store,
    source: Path,
    folder: Path,
    uploads: BegunUploads,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
) -> None:
    """The file is another one by now, the addresses have lapsed, or another shipper had them."""
    interrupt(store, source, uploads)
    if change == "the file":
        source.write_bytes(bytes(range(25, 50)))
        os.utime(source, (1, 1))
    elif change == "the time":
        monkeypatch.setattr(begun_uploads, "LASTS", 0.0)
    else:
        uploads = BegunUploads(folder)
    assert upload(store, source, uploads)
    assert calls(store) == ["create", "abort", "create", "complete"]
    assert b"".join(store.parts[f"/part/{n}"] for n in (1, 2, 3)) == source.read_bytes()
    assert not [*folder.iterdir()]


def test_notes_of_another_user_are_not_used(
    store: Store, source: Path, folder: Path, uploads: BegunUploads
) -> None:
    """They could have uploads taken back that are not ours."""
    interrupt(store, source, uploads)
    vouch_for(folder.parent)
    try:
        assert upload(store, source, BegunUploads(folder))
    finally:
        withdraw(folder.parent)
    assert calls(store) == ["create", "create", "complete"]


def test_a_file_that_takes_longer_than_the_addresses_last(
    store: Store, source: Path, folder: Path, uploads: BegunUploads
) -> None:
    """It is begun anew once, and then it goes by way of the server. Nothing of it stays in the store."""
    interrupt(store, source, uploads)
    store.failures, store.status = 1000, 403
    assert not upload(store, source, uploads)
    assert calls(store) == ["create", "abort", "create", "abort"]
    assert not [*folder.iterdir()]


def test_an_upload_that_can_not_be_completed_begins_anew(
    store: Store, source: Path, folder: Path, uploads: BegunUploads
) -> None:
    """Else the same parts would be refused for ever."""
    with pytest.raises(AnswerError):
        upload(store, source, uploads, place="1/run/artifacts/full/ckpt.pt")
    assert calls(store) == ["create", "complete", "abort"]
    assert not [*folder.iterdir()]


@pytest.mark.parametrize("by_another", [False, True])
def test_what_is_given_up_is_taken_back(
    store: Store, source: Path, folder: Path, uploads: BegunUploads, by_another: bool
) -> None:
    """Only what was begun of that file, also by a shipper before."""
    interrupt(store, source, uploads)
    if by_another:
        uploads = BegunUploads(folder)
    (begun,) = uploads.all()
    assert [begun.is_below(name) for name in (source.name, "other")] == [True, False]
    RestClient(store.url).take_back(begun, uploads)
    assert calls(store) == ["create", "abort"]
    assert not [*uploads.all()]


def test_a_part_that_arrives_changed_is_sent_again(store: Store, source: Path, uploads: BegunUploads) -> None:
    """The store's checksum of it is another one."""
    lost = iter([0, 1])

    def lose(data: bytes) -> bytes:
        return b"?" + data[1:] if data[0] == 10 and next(lost, None) is not None else data

    store.lose = lose
    assert upload(store, source, uploads)
    assert b"".join(store.parts[f"/part/{n}"] for n in (1, 2, 3)) == source.read_bytes()
    assert len(store.credentials) == 5


def test_a_store_whose_words_are_no_checksums_is_believed(
    store: Store, source: Path, uploads: BegunUploads
) -> None:
    """They look like some. The first part is sent three times, and the others once."""
    store.tag = lambda data: hashlib.md5(b"salt" + data).hexdigest()
    assert upload(store, source, uploads)
    assert len(store.credentials) == 5


def test_the_words_of_a_store_that_encrypts_are_no_checksums() -> None:
    """S3 says so in a header."""
    part = HashedPart(Path(__file__))
    assert b"".join(part) == Path(__file__).read_bytes()
    other = "0" * 32
    assert is_checksum_of(f'"{part.md5}"', part, {})
    assert not is_checksum_of(other, part, {})
    assert not is_checksum_of(other, part, {"x-amz-server-side-encryption": "AES256"})
    assert is_checksum_of(other, part, {"x-amz-server-side-encryption": "aws:kms"})
    assert is_checksum_of(other, part, {"x-amz-server-side-encryption-customer-algorithm": "AES256"})
    assert is_checksum_of('"0x8D9"', part, {})


def test_a_server_that_does_not_offer_it_is_not_asked_for_it(store: Store) -> None:
    """An older one has no word for it."""
    store.offers = False
    assert not PartsUploader(RestSession(store.url)).takes(25)
