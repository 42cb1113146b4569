"""One question to an MLflow server beside the rest of the start: does it know us, and what we ask for?

The question is one that the shipper asks, too, with the same credentials: for the run that the user named,
else for the experiment. It is left out where MLflow makes its requests in a way that only MLflow can follow.

Invariants:

* The thread that asks ends by itself, soon: each of its waits has a timeout. Only the system's resolver has
  none.
* Credentials go to the server of the address, over TLS that is verified as MLflow verifies it. A redirect is
  not followed.
* An answer that is not MLflow's refuses nothing, unless its status is about credentials.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlencode, urlsplit

from trackside.destinations.mlflow.credentials import authorisation, own_header
from trackside.destinations.mlflow.findings import NOTHING, Finding, deleted_experiment, deleted_run
from trackside.destinations.mlflow.settings import is_on
from trackside.redaction.redact import redact
from trackside.system.clock import steady
from trackside.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trackside.journal.meta import Target

_ONLY_MLFLOW = (
    "MLFLOW_TRACKING_AUTH",
    "MLFLOW_TRACKING_AWS_SIGV4",
    "MLFLOW_TRACKING_CLIENT_CERT_PATH",
    "MLFLOW_WORKSPACE",
    "DATABRICKS_RUNTIME_VERSION",
)
"""Variables with which MLflow's requests, or its connections, are not plain."""

_API = "/api/2.0/mlflow/"
_LIMIT = 1 << 16
_SHOWN = 300
_OK = 200
_CREDENTIALS = {401, 403}
_SERVER_ERRORS = 500
_NOT_MLFLOW = "the answer is not MLflow's: is there a login page or a proxy in between?"
_CHECK = "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"


class ServerCheck:
    """Asks the server of ``target`` at once, in a thread. The answer counts for ``patience`` seconds."""

    def __init__(self, target: Target, patience: float) -> None:
        self._target = target
        self._patience = patience
        self._due = steady() + patience
        self._finding = NOTHING
        self._thread: threading.Thread | None = None
        if can_ask(target.tracking_uri):
            self._thread = threading.Thread(target=self._ask, name="trackside-check", daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no thread to be had
                self._thread = None

    def finding(self) -> Finding:
        """What the server said, if it did in time."""
        if self._thread is None:
            return NOTHING
        self._thread.join(max(0.0, self._due - steady()))
        return NOTHING if self._thread.is_alive() else self._finding

    def _ask(self) -> None:
        try:
            self._finding = self._judge(*self._request())
        except ConnectionRefusedError:
            self._finding = Finding(trouble=f"connection refused ({self._place})")
        except socket.gaierror:
            self._finding = Finding(trouble=f"the host name cannot be resolved ({self._place})")
        except (
            http.client.HTTPException,
            OSError,
            ValueError,
        ):  # too slow, or not HTTP: the shipper finds out
            pass

    @property
    def _place(self) -> str:
        return urlsplit(self._target.tracking_uri).netloc.rpartition("@")[2]

    def _request(self) -> tuple[int, bytes]:
        parts = urlsplit(self._target.tracking_uri)
        connection = _connect(parts, self._patience)
        try:
            path = parts.path.rstrip("/") + _API + self._question()
            connection.request("GET", path, headers=_headers(self._target.tracking_uri))
            response = connection.getresponse()
            return response.status, response.read(_LIMIT)
        finally:
            connection.close()

    def _question(self) -> str:
        target = self._target
        if target.required_run and target.run_id is not None:
            return "runs/get?" + urlencode({"run_id": target.run_id})
        if target.experiment_id is not None:
            return "experiments/get?" + urlencode({"experiment_id": target.experiment_id})
        return "experiments/get-by-name?" + urlencode(
            {"experiment_name": target.experiment_name or "Default"}
        )

    def _judge(self, status: int, body: bytes) -> Finding:
        if status in _CREDENTIALS:
            return Finding(f"the credentials are refused (HTTP {status}: {_shown(body)}): {_CHECK}")
        if status >= _SERVER_ERRORS:
            return Finding(trouble=f"HTTP {status}")
        answer = _decoded(body)
        if answer is None:
            return Finding(trouble=_NOT_MLFLOW)
        return Finding(self._why_refused(status, answer))

    def _why_refused(self, status: int, answer: dict[str, Any]) -> str | None:
        target = self._target
        if status == _OK:
            experiment, run = answer.get("experiment", {}), answer.get("run", {}).get("info", {})
            if experiment.get("lifecycle_stage") == "deleted":
                return deleted_experiment(str(experiment.get("name")), experiment.get("experiment_id"))
            return deleted_run(str(target.run_id)) if run.get("lifecycle_stage") == "deleted" else None
        if answer.get("error_code") != "RESOURCE_DOES_NOT_EXIST":
            return None
        if target.required_run and target.run_id is not None:
            return f"run {target.run_id!r} does not exist there"
        if target.experiment_id is not None:
            return f"experiment {target.experiment_id} does not exist there"
        return None


def can_ask(uri: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a plain request to ``uri`` is what MLflow would send."""
    if any(is_on(name, environment) for name in _ONLY_MLFLOW):
        return False
    netrc = environment.get("NETRC") or os.path.expanduser("~/.netrc")
    return not (os.path.exists(netrc) or _is_proxied(uri, environment))


def _is_proxied(uri: str, environment: Mapping[str, str]) -> bool:
    parts = urlsplit(uri)
    if not any(
        environment.get(name) or environment.get(name.upper())
        for name in (f"{parts.scheme}_proxy", "all_proxy")
    ):
        return False
    from urllib.request import proxy_bypass

    return not proxy_bypass(parts.hostname or "")


def _connect(parts: SplitResult, patience: float) -> http.client.HTTPConnection:
    host = parts.hostname or ""
    if parts.scheme.lower() == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=patience)
    return http.client.HTTPSConnection(host, parts.port, timeout=patience, context=_tls(os.environ))


def _tls(environment: Mapping[str, str]) -> ssl.SSLContext:
    """Verified by the bundle that MLflow's variable names, or ``requests``' variables, or the usual one."""
    if environment.get("MLFLOW_TRACKING_INSECURE_TLS", "").strip().lower() in {"true", "1"}:
        return ssl._create_unverified_context()  # noqa: S323, SLF001 - as the user asked
    names = ("MLFLOW_TRACKING_SERVER_CERT_PATH", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
    bundle = next((environment[name] for name in names if environment.get(name)), None)
    folder = bundle if bundle is not None and os.path.isdir(bundle) else None
    return ssl.create_default_context(cafile=None if folder else bundle, capath=folder)


def _headers(uri: str) -> dict[str, str]:
    """The credentials that go to this server: the address's own come first, as with ``requests``."""
    header = own_header(uri)
    return authorisation(os.environ) if header is None else {"Authorization": header}


def _decoded(body: bytes) -> dict[str, Any] | None:
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _shown(body: bytes) -> str:
    text = " ".join(printable(redact(body.decode("utf-8", "replace"))).split())
    return text[:_SHOWN] or "no reason given"
