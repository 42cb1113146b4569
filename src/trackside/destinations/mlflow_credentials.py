"""Credentials go to the server that they were set for, and to no other.

MLflow sends ``MLFLOW_TRACKING_TOKEN``, or the user name and password, to whatever server it talks to. A
second server (:mod:`trackside.destinations.mlflow_mirror`) would get those of the first. Each request that
the shipper makes with ``requests`` passes here, uploads included. What an address itself carries
(``http://user:password@host``) is meant for that address.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from trackside.destinations.mlflow_address import is_server
from trackside.known_secrets import kept_by_mlflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_DEFAULT_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]
"""Scheme, host and port."""

_NOWHERE: Origin = ("", "", 0)

_homes: set[Origin] = set()
"""Where the credentials of the environment may go; empty while nothing is known."""


def keep_credentials(own: Iterable[str], beside: Iterable[str]) -> None:
    """From now on send the environment's credentials only to the servers among ``own``.

    If none of ``own`` is a server (the run is in a database), they are for the first of ``beside``.
    """
    homes = [address for address in own if is_server(address)]
    homes = homes or [address for address in beside if is_server(address)][:1]
    _homes.clear()
    _homes.update(origin for origin in map(origin_of, homes) if origin is not None)


def keep_credentials_for(addresses: Iterable[str]) -> None:
    """From now on send the environment's credentials only to the servers among ``addresses``, if any."""
    servers = [address for address in addresses if is_server(address)]
    keep_credentials(servers, beside=())
    if not servers:
        _homes.add(_NOWHERE)


def guard_requests() -> None:
    """Have each request of this process pass here. Call once ``requests`` may be imported."""
    import requests

    adapter: Any = requests.adapters.HTTPAdapter
    if not getattr(adapter.send, "keeps_credentials", False):
        adapter.send = guarded(adapter.send)


def guarded(send: Callable[..., Any]) -> Callable[..., Any]:
    """``send`` of a transport, without our credentials for servers that they are not for."""

    def send_without(transport: Any, request: Any, *arguments: Any, **options: Any) -> Any:
        if _homes and _is_foreign(request.url) and request.headers.get("Authorization") in _headers():
            del request.headers["Authorization"]
        return send(transport, request, *arguments, **options)

    send_without.keeps_credentials = True  # type: ignore[attr-defined]
    return send_without


def origin_of(address: str) -> Origin | None:
    """What tells one server from another; None for what is no address."""
    try:
        parts = urlsplit(address)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    return parts.scheme, parts.hostname or "", port


def _is_foreign(address: str) -> bool:
    """Whether it is another server's, without credentials of its own."""
    return origin_of(address) not in _homes and "@" not in urlsplit(address).netloc


def _headers() -> set[str | bytes]:
    """What MLflow makes of the credentials in the environment (``mlflow/utils/rest_utils.py``)."""
    name, password = kept_by_mlflow()
    name = os.environ.get("MLFLOW_TRACKING_USERNAME") or name
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or password
    encoded = base64.b64encode(f"{name}:{password}".encode()).decode("ascii")
    texts = {f"Basic {encoded}", f"Bearer {os.environ.get('MLFLOW_TRACKING_TOKEN', '')}"}
    return {*texts, *(text.encode() for text in texts)}
