"""A large file in parts, straight into the store behind an MLflow server, where the server offers that.

The server names an address for each part, and the store answers with what tells the part from others. The
bytes don't pass the server. MLflow's client does the same (``mlflow/store/artifact/http_artifact_repo.py``).

Invariants:

* The addresses are the store's and carry their own permission: no credentials for MLflow go there.
* A part that fails is sent again a few times. An upload that fails is taken back, so that nothing of it is
  paid for.
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from trackside.destinations.answers import patient
from trackside.destinations.mlflow.errors import AnswerError
from trackside.destinations.mlflow.file_body import FileBody, seconds_to_store
from trackside.destinations.mlflow.rest_session import Done
from trackside.destinations.mlflow.settings import is_on, request_timeout
from trackside.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


class _Info(msgspec.Struct):
    multipart_uploads_enabled: bool | None = False


class _Credential(msgspec.Struct):
    url: str
    part_number: int
    headers: dict[str, str] | None = None


class _Created(msgspec.Struct):
    upload_id: str | None = None
    credentials: list[_Credential] = []


class PartsUploader:
    """Sends files in parts by way of the server of ``session``."""

    def __init__(self, session: RestSession) -> None:
        self._session = session
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

    def upload(self, source: Path, size: int, place: str, on_sent: Callable[[int], None]) -> bool:
        """Write ``source`` to ``place``, below the server's artifacts. False if the server can't do it."""
        length = max(_number("MLFLOW_MULTIPART_UPLOAD_CHUNK_SIZE", PART), -(-size // MOST_PARTS))
        folder, _, name = place.rpartition("/")
        folder = quote(folder)  # part of an address, as the name is not
        try:
            created = self._session.post(
                f"{_API}/create/{folder}", _Created, {"path": name, "num_parts": -(-size // length)}
            )
        except AnswerError as error:
            if _UNSUPPORTED not in str(error):
                raise
            self._is_offered = False
            return False
        known = {"path": name, "upload_id": created.upload_id}
        try:
            parts = []
            for credential in created.credentials:
                start = (credential.part_number - 1) * length
                part = FileBody(source, start=start, size=min(length, size - start))
                tag = _send(credential, part)
                parts.append({"part_number": credential.part_number, "etag": tag, "url": credential.url})
                on_sent(len(part))
            with patient(request_timeout() + seconds_to_store(size)):
                self._session.post(f"{_API}/complete/{folder}", Done, {**known, "parts": parts})
        except BaseException:
            self._take_back(folder, known)
            raise
        return True

    def _ask(self) -> bool:
        try:
            return bool(self._session.get(_INFO, _Info).multipart_uploads_enabled)
        except (AnswerError, RetryableError):  # an older server
            return False

    def _take_back(self, folder: str, known: dict[str, str | None]) -> None:
        try:
            self._session.post(f"{_API}/abort/{folder}", Done, known)
        except Exception as error:  # the store forgets it by rules of its own
            logger.warning("parts of an upload stay in the store: %s", error)


def _send(credential: _Credential, part: FileBody) -> str:
    """Send one part. Returns the store's word for it."""
    import requests

    error = ""
    patience = request_timeout() + seconds_to_store(len(part))
    for attempt in range(TRIES):
        try:
            with patient(patience):
                answer = requests.put(
                    credential.url,
                    data=part,
                    headers=credential.headers,
                    timeout=(request_timeout(), patience),
                    allow_redirects=False,
                    verify=not is_on("MLFLOW_S3_IGNORE_TLS", os.environ),
                )
            if answer.status_code == _OK:
                return answer.headers.get("ETag", "")
            error = f"the store answers a part with {answer.status_code}: {answer.text[:500]}"
        except requests.RequestException as failure:
            error = f"the store does not take a part: {type(failure).__name__}"
        logger.info("part %s, try %s: %s", credential.part_number, attempt + 1, error)
    raise RetryableError(error)


def _number(name: str, default: int) -> int:
    text = os.environ.get(name, "").strip()
    return int(text) if text.isascii() and text.isdigit() and int(text) else default
