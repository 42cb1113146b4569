"""Requests to an MLflow server: address, credentials, TLS, and the check of each answer.

Everything here is as MLflow's client has it (``mlflow/utils/rest_utils.py``,
``mlflow/utils/credentials.py``), also the order. The credentials that ``~/.netrc`` has for the host come
first, then those in the address, then the user name and password of the environment or of
``~/.mlflow/credentials``, then the token. ``requests`` does the first two, and the proxies and CA bundles of
the environment.

Invariants:

* Credentials and certificates are read at each request, so that renewed ones are used.
* A redirect is not followed. It would take a write elsewhere, and the credentials with it.
* Nothing is tried twice. The shipper has a policy of its own.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from mimetypes import guess_type
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from trackside.destinations.answers import patient
from trackside.destinations.mlflow.credentials import authorisation
from trackside.destinations.mlflow.errors import AnswerError
from trackside.destinations.mlflow.file_body import seconds_to_store
from trackside.destinations.mlflow.settings import request_timeout
from trackside.errors import RejectedError, RetryableError, UnauthorisedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import requests

    from trackside.destinations.mlflow.file_body import FileBody

_OK = 200
_REDIRECTS = range(300, 400)
_SWITCH = {"true": True, "1": True, "false": False, "0": False, "": False}

Answer = TypeVar("Answer")


class Done(msgspec.Struct):
    """An answer that says no more than that."""


class RestSession:
    """Makes requests to the server at ``uri``. Several threads may use it at once.

    Raises :class:`RejectedError` if the TLS variables contradict each other.
    """

    def __init__(self, uri: str) -> None:
        import requests

        self._base = uri.removesuffix("/")
        self._session = requests.Session()
        tls_options(os.environ)
        self._agent = f"trackside/{version('trackside')}"

    def get(self, endpoint: str, kind: type[Answer], **parameters: str) -> Answer:
        """The answer to a question."""
        return self._read(endpoint, kind, self._send("GET", endpoint, params=parameters))

    def post(self, endpoint: str, kind: type[Answer], body: object) -> Answer:
        """The answer to a write. ``body``: JSON, as bytes or yet to be encoded."""
        return self._write("POST", endpoint, kind, body)

    def patch(self, endpoint: str, kind: type[Answer], body: object) -> Answer:
        """The answer to a change. ``body``: as for :meth:`post`."""
        return self._write("PATCH", endpoint, kind, body)

    def fetch(self, endpoint: str) -> bytes:
        """The file at ``endpoint``."""
        return self._checked(endpoint, self._send("GET", endpoint)).content

    def put(self, endpoint: str, data: bytes) -> None:
        """Write the file at ``endpoint``."""
        headers = {"Content-Type": "text/plain; charset=utf-8"}
        self._checked(endpoint, self._send("PUT", endpoint, data=data, headers=headers))

    def put_file(self, endpoint: str, body: FileBody) -> None:
        """Write the file at ``endpoint``, of any size. The server has longer to answer the larger it is."""
        timeout, patience = request_timeout(), request_timeout() + seconds_to_store(len(body))
        headers = {"Content-Type": guess_type(endpoint)[0] or "application/octet-stream"}
        data = body if len(body) else b""  # else requests would send pieces without a length
        with patient(patience):
            response = self._send("PUT", endpoint, data=data, headers=headers, timeout=(timeout, patience))
            if self._checked(endpoint, response).content:  # MLflow 3.17 answers with nothing, 3.6 with JSON
                self._read(endpoint, Done, response)

    def delete(self, endpoint: str) -> None:
        """Delete the file at ``endpoint``."""
        self._checked(endpoint, self._send("DELETE", endpoint))

    def _send(
        self, method: str, endpoint: str, *, headers: Mapping[str, str] | None = None, **options: Any
    ) -> requests.Response:
        return self._session.request(
            method,
            self._base + endpoint,
            headers={"User-Agent": self._agent, **authorisation(os.environ), **(headers or {})},
            allow_redirects=False,
            **_renewed_tls_options(),
            **{"timeout": request_timeout(), **options},
        )

    def _write(self, method: str, endpoint: str, kind: type[Answer], body: object) -> Answer:
        data = body if isinstance(body, bytes) else msgspec.json.encode(body)
        headers = {"Content-Type": "application/json"}
        return self._read(endpoint, kind, self._send(method, endpoint, data=data, headers=headers))

    def _read(self, endpoint: str, kind: type[Answer], response: requests.Response) -> Answer:
        content = self._checked(endpoint, response).content
        if not content.strip():  # MLflow's own answer is a JSON object, an empty one at least
            raise RetryableError("the answer is empty, so it is not MLflow's: is there a proxy in between?")
        try:
            return decode(content, kind)
        except (ValueError, RecursionError) as error:
            raise RetryableError(
                "the answer is not MLflow's: is there a login page or a proxy in between?"
            ) from error

    def _checked(self, endpoint: str, response: requests.Response) -> requests.Response:
        """``response`` if it is a success. Raises :class:`AnswerError` for every other status."""
        if response.status_code == _OK:
            return response
        code, message = _error_in(response.content)
        if message is None:
            text = response.content.decode("utf-8", "replace")
            message = f"{endpoint} failed with error code {response.status_code}. Response body: {text!r}"
        if response.status_code in _REDIRECTS:
            place = response.headers.get("Location", "")
            message = f"the server redirects {endpoint} to {place}: use that address as tracking_uri"
        raise AnswerError(message, status=response.status_code, headers=response.headers, code=code)


def tls_options(environment: Mapping[str, str]) -> dict[str, Any]:
    """What MLflow's variables say on certificates, as options of ``requests``."""
    authority = environment.get("MLFLOW_TRACKING_SERVER_CERT_PATH")
    text = environment.get("MLFLOW_TRACKING_INSECURE_TLS", "").strip().lower()
    if text not in _SWITCH:
        raise RejectedError(f"MLFLOW_TRACKING_INSECURE_TLS={text!r} is neither true nor false")
    if _SWITCH[text] and authority:
        raise RejectedError(
            "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH are set. Unset one of them"
        )
    options: dict[str, Any] = {"verify": authority or not _SWITCH[text]}
    certificate = environment.get("MLFLOW_TRACKING_CLIENT_CERT_PATH")
    if certificate:
        options["cert"] = certificate
    return options


def _renewed_tls_options() -> dict[str, Any]:
    try:
        return tls_options(os.environ)
    except RejectedError as error:  # nothing is wrong with what is sent: wait for better ones
        raise UnauthorisedError(str(error)) from error


def decode(content: bytes, kind: type[Answer]) -> Answer:
    """The JSON of an answer. Raises :class:`ValueError` for any other text.

    As MLflow reads it: numbers may be texts, and what Python's ``json`` takes is taken.
    """
    try:
        return msgspec.json.decode(content, type=kind, strict=False)
    except (ValueError, msgspec.MsgspecError):
        return msgspec.convert(json.loads(content), kind, strict=False)


def _error_in(content: bytes) -> tuple[str | None, str | None]:
    """MLflow's code and words in the body of an error. None for what is not in it."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(found, dict):
        return None, None
    code = found.get("error_code") or None
    words = found.get("message", f"Response: {found}")
    return (None if code is None else str(code)), f"{code or 'INTERNAL_ERROR'}: {words}"
