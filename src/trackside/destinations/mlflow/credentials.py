"""Credentials are sent to the server that they were set for, and to no other.

MLflow sends ``MLFLOW_TRACKING_TOKEN``, or the user name and password, or what the plugin that
``MLFLOW_TRACKING_AUTH`` names gives, to whatever server it talks to. A second server
(:mod:`trackside.destinations.mlflow.mirror`) would get those of the first. Each request that the shipper
makes with ``requests`` passes here, uploads included.

What an address itself carries (``http://user:password@host``) is meant for that address. An address with a
name only (``http://user@host``) carries nothing: ``requests`` then sends what MLflow has set.
"""

from __future__ import annotations

import base64
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from trackside.destinations.mlflow.address import is_server
from trackside.redaction.known_values import kept_by_mlflow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

_DEFAULT_PORTS = {"http": 80, "https": 443}

Origin = tuple[str, str, int]
"""Scheme, host and port."""

_NOWHERE: Origin = ("", "", 0)

_homes: set[Origin] = set()
"""Servers that may get the credentials of the environment. While empty, every server may."""


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
    prepared: Any = requests.models.PreparedRequest
    if not getattr(prepared.prepare_auth, "keeps_credentials", False):
        prepared.prepare_auth = _guarded_plugin(prepared.prepare_auth)


def guarded(send: Callable[..., Any]) -> Callable[..., Any]:
    """``send`` of a transport, without our credentials for servers that they are not for."""

    def send_without(transport: Any, request: Any, *arguments: Any, **options: Any) -> Any:
        sent = request.headers.get("Authorization")
        if _homes and _is_foreign(request.url) and sent in _headers() and sent != own_header(request.url):
            del request.headers["Authorization"]
        return send(transport, request, *arguments, **options)

    send_without.keeps_credentials = True  # type: ignore[attr-defined]
    return send_without


def _guarded_plugin(prepare_auth: Callable[..., None]) -> Callable[..., None]:
    """``prepare_auth`` of a request, without the plugin that ``MLFLOW_TRACKING_AUTH`` names for strangers.

    A plugin is an object. A pair is what ``~/.netrc`` holds for that very host.
    """

    def prepare(request: Any, auth: Any, url: str = "") -> None:
        plugin = auth is not None and not isinstance(auth, tuple) and "MLFLOW_TRACKING_AUTH" in os.environ
        keep_back = plugin and _homes and _is_foreign(request.url)
        prepare_auth(request, None if keep_back else auth, url)

    prepare.keeps_credentials = True  # type: ignore[attr-defined]
    return prepare


def origin_of(address: str) -> Origin | None:
    """What tells one server from another. None for a text that is not an address."""
    try:
        parts = urlsplit(address)
        port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        return None
    return parts.scheme, parts.hostname or "", port


def _is_foreign(address: str) -> bool:
    """Whether it is the address of a server that our credentials are not for."""
    return origin_of(address) not in _homes


def authorisation(environment: Mapping[str, str]) -> dict[str, str]:
    """The header that MLflow makes of the credentials in ``environment`` and in its file."""
    name = environment.get("MLFLOW_TRACKING_USERNAME")
    password = environment.get("MLFLOW_TRACKING_PASSWORD")
    if not name or not password:
        kept_name, kept_password = kept_by_mlflow()
        name, password = name or kept_name, password or kept_password
    token = environment.get("MLFLOW_TRACKING_TOKEN")
    if name and password:
        return {"Authorization": _basic(name, password)}
    return {"Authorization": f"Bearer {token}"} if token else {}


def own_header(address: str) -> str | None:
    """The header ``requests`` makes of the name and password in ``address``. None if it makes none."""
    parts = urlsplit(address)
    if parts.username is None or parts.password is None or not (parts.username or parts.password):
        return None
    return _basic(unquote(parts.username), unquote(parts.password))


def _headers() -> set[str | bytes]:
    """What MLflow makes of the credentials in the environment (``mlflow/utils/rest_utils.py``)."""
    name, password = kept_by_mlflow()
    name = os.environ.get("MLFLOW_TRACKING_USERNAME") or name
    password = os.environ.get("MLFLOW_TRACKING_PASSWORD") or password
    texts = {_basic(name, password), f"Bearer {os.environ.get('MLFLOW_TRACKING_TOKEN', '')}"}
    return {*texts, *(text.encode() for text in texts)}


def _basic(name: str | None, password: str | None) -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode("ascii")
