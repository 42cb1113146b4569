"""A few words for an error on the way to the server. Pure.

``requests`` and ``urllib3`` wrap a refused connection into four lines of text. The user gets the reason, and
the shipper's log the rest.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_BY_NAME = {
    "SSLError": "the server's TLS certificate is not accepted",
    "ProxyError": "the HTTP proxy does not answer",
    "NameResolutionError": "the host name cannot be resolved",
    "ConnectTimeoutError": "no connection in time",
    "ConnectTimeout": "no connection in time",
    "ReadTimeoutError": "no answer in time",
    "ReadTimeout": "no answer in time",
    "RemoteDisconnected": "the server closed the connection",
    "IncompleteRead": "the server closed the connection",
}
_BY_TYPE: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "connection refused"),
    (ConnectionError, "the server closed the connection"),
    (socket.gaierror, "the host name cannot be resolved"),
)
_LIBRARIES = {"requests", "urllib3", "http"}

_NOT_JSON = "response body was not in a valid JSON format"  # mlflow/utils/rest_utils.py


def reason_on_the_way(chain: Iterable[BaseException]) -> str | None:
    """Why the server gave no answer of its own. None for every other error."""
    errors = list(chain)
    if any(_NOT_JSON in str(error) for error in errors):
        return "the answer is not MLflow's: is there a login page or a proxy in between?"
    reason = _reason(
        [e for e in errors if _is_of_a_library(e)], [e for e in errors if not _is_of_a_library(e)]
    )
    pools = (getattr(error, "pool", None) for error in errors)
    pool = next((pool for pool in pools if pool is not None), None)
    host = None if pool is None else f"{getattr(pool, 'host', '')}:{getattr(pool, 'port', '')}"
    return reason if reason is None or host is None else f"{reason} ({host})"


def _reason(theirs: list[BaseException], pythons: list[BaseException]) -> str | None:
    """From the errors of the HTTP libraries, by name, or Python's behind them, by type."""
    if not theirs:
        return None
    by_name = (_BY_NAME.get(type(error).__name__) for error in theirs)
    by_type = (text for kind, text in _BY_TYPE if any(isinstance(error, kind) for error in pythons))
    systems = (e.strerror for e in reversed(pythons) if isinstance(e, OSError))
    return next((text for text in (*by_name, *by_type, *systems) if text), None)


def _is_of_a_library(error: BaseException) -> bool:
    return type(error).__module__.partition(".")[0] in _LIBRARIES
