"""Files in S3: behind MLflow's server in parts, and written to directly. moto's server is the store."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from tests.faults.servers import MlflowServer
from trackside.destinations.mlflow.begun_uploads import BegunUploads
from trackside.destinations.mlflow.rest_client import RestClient
from trackside.destinations.mlflow.upload_in_parts import PartSender
from trackside.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.destinations.mlflow.tracking import Run

pytestmark = pytest.mark.process

BUCKET = "the-bucket"
PART = 5 << 20
"""Bytes. S3 takes no smaller ones."""

NAME = "my models/epoch=1 step=2.ckpt"


@pytest.fixture(scope="module")
def s3() -> Iterator[Any]:
    """A client of a store with an empty bucket, which the variables name to this process and to servers."""
    store = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    store.start()
    url = f"http://127.0.0.1:{store.get_host_and_port()[1]}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_S3_ENDPOINT_URL", url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "key")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        client = boto3.client("s3", endpoint_url=url)
        client.create_bucket(Bucket=BUCKET)
        yield client
    store.stop()


@pytest.fixture(scope="module")
def server(s3: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MlflowServer]:
    """A server that keeps its files there, and offers to take them in parts."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
        folder = tmp_path_factory.mktemp("server")
        with MlflowServer(folder, files_to=f"s3://{BUCKET}/root dir").running() as made:
            yield made


@pytest.fixture
def source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of three parts."""
    monkeypatch.setenv("MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD", "true")
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", str(PART + 1))
    monkeypatch.setenv("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", str(PART))
    path = tmp_path / "0123456789abcdef"
    path.write_bytes(os.urandom(2 * PART + 1000))
    return path


def run_in(client: RestClient, name: str, place: str | None = None) -> Run:
    """A new run of a new experiment, whose files go to ``place``."""
    experiment = client.create_experiment(name, artifact_location=place)
    return client.create_run(experiment, start_time=0, tags={}, run_name=None)


def stored(s3: Any, run: Run, root: str) -> tuple[bytes, str]:
    """What the store has under the run's file, and its word for it."""
    place = run.info.artifact_uri.partition(":")[2].removeprefix(f"//{BUCKET}").strip("/")
    found = s3.get_object(Bucket=BUCKET, Key=f"{root}{place}/{NAME}")
    return found["Body"].read(), found["ETag"].strip('"')


def test_a_file_in_parts_is_the_same_and_goes_on_where_it_broke_off(
    s3: Any, server: MlflowServer, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second try sends what is missing. Nothing half remains, and the name is the file's."""
    sent: list[int] = []
    send = PartSender.send

    def break_off(self: PartSender, address: Any, part: Any) -> str:
        if len(sent) == 1:
            sent.append(0)
            raise RetryableError("the connection is lost")
        sent.append(address.part_number)
        return send(self, address, part)

    monkeypatch.setattr(PartSender, "send", break_off)
    run = run_in(RestClient(server.url), "in parts")
    uploads = BegunUploads(tmp_path / "begun")
    with pytest.raises(RetryableError):
        RestClient(server.url).upload_file(run, source, NAME, uploads=uploads)
    assert len(s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]) == 1
    RestClient(server.url).upload_file(run, source, NAME, uploads=uploads)
    assert sent == [1, 0, 2, 3]
    content, tag = stored(s3, run, "root dir/")
    assert content == source.read_bytes()
    assert tag.endswith("-3")
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_what_is_given_up_leaves_nothing_in_the_store(
    s3: Any, server: MlflowServer, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parts cost money until they are taken back."""

    def lose(*_arguments: Any) -> str:
        raise RetryableError("the connection is lost")

    monkeypatch.setattr(PartSender, "send", lose)
    client = RestClient(server.url)
    uploads = BegunUploads(tmp_path / "begun")
    with pytest.raises(RetryableError):
        client.upload_file(run_in(client, "given up"), source, NAME, uploads=uploads)
    (begun,) = uploads.all()
    client.take_back(begun, uploads)
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_a_small_file_goes_by_way_of_the_server(s3: Any, server: MlflowServer, tmp_path: Path) -> None:
    """Under its own name, too."""
    source = tmp_path / "small"
    source.write_bytes(os.urandom(1_500_000))
    client = RestClient(server.url)
    run = run_in(client, "small")
    client.upload_file(run, source, NAME)
    assert stored(s3, run, "root dir/")[0] == source.read_bytes()


def test_a_run_whose_files_are_in_s3_is_written_to_directly(
    s3: Any, server: MlflowServer, source: Path
) -> None:
    """Past the server, by MLflow's own client, which sends parts of its own."""
    client = RestClient(server.url)
    run = run_in(client, "direct", f"s3://{BUCKET}/direct dir")
    seen: list[int] = []
    client.upload_file(run, source, NAME, on_sent=seen.append)
    assert stored(s3, run, "")[0] == source.read_bytes()
    assert sum(seen) == 2 * PART + 1000
