"""A large file in parts, straight into the store behind an MLflow server, where the server offers that.

The server names an address for each part, and the store answers with what tells the part from others. The
bytes don't pass the server. MLflow's client does the same (``mlflow/store/artifact/http_artifact_repo.py``).

Invariants:

* The addresses are the store's and carry their own permission: no credentials for MLflow go there.
* A part that fails is sent again a few times. An upload that is interrupted goes on with the parts that are
  missing, while this process lives and the addresses last
  (:mod:`~trackside.destinations.mlflow.begun_uploads`).
* What is not gone on with is taken back, so that nothing of it is paid for.
* Where the store answers with a checksum, it is that of the bytes that were sent.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from trackside.destinations.answers import patient
from trackside.destinations.mlflow.begun_uploads import BegunUpload, PartAddress, changed_ns
from trackside.destinations.mlflow.errors import AnswerError
from trackside.destinations.mlflow.file_body import HashedPart, seconds_to_store
from trackside.destinations.mlflow.rest_session import Done
from trackside.destinations.mlflow.settings import is_on, request_timeout
from trackside.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from trackside.destinations.mlflow.begun_uploads import BegunUploads
    from trackside.destinations.mlflow.rest_session import RestSession

logger = logging.getLogger("trackside.destinations")

MINIMUM = 500 << 20
"""Bytes from which on a file is sent in parts, as MLflow's client does it."""

PART = 10 << 20
MOST_PARTS = 1000
TRIES = 3

_API = "/api/2.0/mlflow-artifacts/mpu"
_INFO = "/api/3.0/mlflow/server-info"
_WANTED = "MLFLOW_ENABLE_PROXY_MULTIPART_UPLOAD"
_UNSUPPORTED = "Multipart upload is not supported"
_OK = 200
_LAPSED = {401, 403, 404, 410}
_MD5 = re.compile("[0-9a-f]{32}")
_ENCRYPTED = ("x-amz-server-side-encryption-customer-algorithm",)


class _Info(msgspec.Struct):
    multipart_uploads_enabled: bool | None = False


class _Created(msgspec.Struct):
    upload_id: str | None = None
    credentials: list[PartAddress] = []


class _LapsedError(Exception):
    """The addresses of the parts are not valid any more, or the upload is not known any more."""


class PartsUploader:
    """Sends files in parts by way of the server of ``session``."""

    def __init__(self, session: RestSession) -> None:
        self._session = session
        self._sender = PartSender()
        self._is_offered: bool | None = None

    def takes(self, size: int) -> bool:
        """Whether to send a file of ``size`` bytes in parts."""
        if size < _number("MLFLOW_MULTIPART_UPLOAD_MINIMUM_FILE_SIZE", MINIMUM):
            return False
        if _WANTED in os.environ:
            return is_on(_WANTED, os.environ) and self._is_offered is not False
        if self._is_offered is None:
            self._is_offered = self._ask()
        return self._is_offered

    def upload(
        self, source: Path, size: int, place: str, on_sent: Callable[[int], None], uploads: BegunUploads
    ) -> bool:
        """Write ``source`` to ``place``, below the server's artifacts. False if the server can't do it.

        It goes on where one of ``uploads`` was interrupted.
        """
        begun = self._to_go_on_with(source, size, place, uploads)
        if begun is not None:
            try:
                self._finish(begun, source, on_sent, uploads)
            except _LapsedError:
                self.take_back(begun, uploads)
            else:
                return True
        begun = self._begin(source, size, place, uploads)
        if begun is None:
            return False
        try:
            self._finish(begun, source, on_sent, uploads)
        except _LapsedError as error:  # it takes longer than the addresses last
            logger.info("%s, so the file goes by way of the server", error)
            self.take_back(begun, uploads)
            return False
        return True

    def take_back(self, begun: BegunUpload, uploads: BegunUploads) -> None:
        """Have the store forget the parts."""
        folder, known = _named(begun)
        try:
            self._session.post(f"{_API}/abort/{folder}", Done, known)
        except Exception as error:  # the store forgets it by rules of its own
            logger.warning("parts of an upload stay in the store: %s", error)
        uploads.forget(begun)

    def _to_go_on_with(
        self, source: Path, size: int, place: str, uploads: BegunUploads
    ) -> BegunUpload | None:
        begun = uploads.find(place)
        if begun is None or begun.is_of(source, size):
            return begun
        self.take_back(begun, uploads)
        return None

    def _begin(self, source: Path, size: int, place: str, uploads: BegunUploads) -> BegunUpload | None:
        """Ask for the addresses. None if the server has none."""
        length = max(_number("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", PART), -(-size // MOST_PARTS))
        folder, _, name = place.rpartition("/")
        body = {"path": name, "num_parts": -(-size // length)}
        try:
            created = self._session.post(f"{_API}/create/{quote(folder)}", _Created, body)
        except AnswerError as error:
            if _UNSUPPORTED not in str(error):
                raise
            self._is_offered = False
            return None
        begun = BegunUpload(
            place, str(source), created.upload_id, size, changed_ns(source), length, created.credentials
        )
        uploads.add(begun)
        return begun

    def _finish(
        self, begun: BegunUpload, source: Path, on_sent: Callable[[int], None], uploads: BegunUploads
    ) -> None:
        """Send the parts that are missing, and say that they are all. Raises :class:`_LapsedError`."""
        parts = []
        for address in begun.addresses:
            number = address.part_number
            start = (number - 1) * begun.length
            part = HashedPart(source, start=start, size=min(begun.length, begun.size - start))
            if number not in begun.tags:
                begun.tags[number] = self._sender.send(address, part)
            on_sent(len(part))
            parts.append({"part_number": number, "etag": begun.tags[number], "url": address.url})
        folder, known = _named(begun)
        with patient(request_timeout() + seconds_to_store(begun.size)):
            try:
                self._session.post(f"{_API}/complete/{folder}", Done, {**known, "parts": parts})
            except AnswerError:
                self.take_back(begun, uploads)
                raise
        uploads.forget(begun)

    def _ask(self) -> bool:
        try:
            return bool(self._session.get(_INFO, _Info).multipart_uploads_enabled)
        except (AnswerError, RetryableError):  # an older server
            return False


class PartSender:
    """Sends parts to the store."""

    def __init__(self) -> None:
        self._has_checksums = True

    def send(self, address: PartAddress, part: HashedPart) -> str:
        """Send one part. Returns the store's word for it. Raises :class:`_LapsedError`."""
        import requests

        error = tag = ""
        patience = request_timeout() + seconds_to_store(len(part))
        for attempt in range(TRIES):
            try:
                with patient(patience):
                    answer = requests.put(
                        address.url,
                        data=part,
                        headers=address.headers,
                        timeout=(request_timeout(), patience),
                        allow_redirects=False,
                        verify=not is_on("MLFLOW_S3_IGNORE_TLS", os.environ),
                    )
                if answer.status_code in _LAPSED:
                    raise _LapsedError(f"the store answers a part with {answer.status_code}")
                if answer.status_code != _OK:
                    error = f"the store answers a part with {answer.status_code}: {answer.text[:500]}"
                else:
                    tag = answer.headers.get("ETag", "")
                    if not self._has_checksums or is_checksum_of(tag, part, answer.headers):
                        return tag
                    error = "the checksum of a part is another one"
            except requests.RequestException as failure:
                error = f"the store does not take a part: {type(failure).__name__}"
            logger.info("part %s, try %s: %s", address.part_number, attempt + 1, error)
        if not tag:
            raise RetryableError(error)
        self._has_checksums = False
        logger.warning("what the store answers for a part is no checksum, so the parts are not compared")
        return tag


def is_checksum_of(tag: str, part: HashedPart, headers: Mapping[str, str]) -> bool:
    """Whether the store's word for a part is its MD5, or says nothing of its bytes."""
    found = tag.strip('"')
    if _MD5.fullmatch(found) is None or any(name in headers for name in _ENCRYPTED):
        return True
    return headers.get("x-amz-server-side-encryption", "AES256") != "AES256" or found == part.md5


def _named(begun: BegunUpload) -> tuple[str, dict[str, str | None]]:
    """The folder as a part of an address, and what else names the upload."""
    folder, _, name = begun.place.rpartition("/")
    return quote(folder), {"path": name, "upload_id": begun.upload_id}


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and int(text) else default
