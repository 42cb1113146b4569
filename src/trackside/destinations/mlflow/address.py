"""What a tracking address means, from its text alone: no network, no import of MLflow.

MLflow takes an address without a scheme for a folder. ``localhost:5000`` makes a folder of that name, or
fails later with a message about file stores. Each mistake here gets an error that says what to write instead.
"""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

from trackside.bulk_store.uri import PREFIX, plain_uri
from trackside.errors import ConfigurationError, RejectedError
from trackside.redaction.forms import mask_address
from trackside.system.journal_address import inner_address
from trackside.system.sqlite_address import path_in

_SERVERS = ("http", "https")
DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""``DATABASE_ENGINES`` in ``mlflow/store/db/db_types.py``."""

_OTHERS = ("file", "databricks", "databricks-uc", "uc")
_ARTIFACTS = ("s3", "gs", "wasbs", "abfss", "hdfs", "dbfs", "azureml", "r2", "b2", "ftp", "sftp")
"""Schemes that MLflow takes for artifacts, not for runs."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):(.*)", re.DOTALL)
_HOST_AND_PORT = re.compile(r"(?://)?([\w.\-]+|\[[0-9A-Fa-f:]+\]):\d{1,5}(/\S*)?")
_DOMAINS = "com|org|net|io|ai|dev|edu|gov|local|internal|lan"
_HOST = re.compile(rf"localhost|\d{{1,3}}(\.\d{{1,3}}){{3}}|([\w\-]+\.)+({_DOMAINS})")
_VARIABLE = re.compile(r"^\$|\$\{|^\{\w+\}|//\{\w+\}")
_SHORTEST = 2
"""Letters up to which a scheme is like too many others, a drive's letter among them."""
_DATABASE_FILE = (".db", ".sqlite", ".sqlite3")


def checked_address(uri: str, what: str = "tracking_uri") -> str:
    """``uri`` without white space around it.

    Raises :class:`ConfigurationError` for an address that MLflow would reject, or take for something else.
    ``what`` names the place where the address was given.
    """
    text = inner_address(uri.strip())
    if not text:
        raise ConfigurationError(
            f"{what} is empty. Give an address such as sqlite:///mlflow.db or http://host:5000, or None"
        )
    if text[0] in "'\"":
        _refuse(what, text, "has quotes in it", text.strip("'\""))
    if _VARIABLE.search(text):
        _refuse(what, text, "has a variable in it that nothing has replaced", "its value")
    scheme, rest = _split(text)
    if not scheme:
        _check_path(what, text)
    elif scheme in _SERVERS:
        _check_server(what, text, rest)
    elif scheme.removeprefix(PREFIX).partition("+")[0] in DATABASES:
        _check_database(what, text, scheme, rest)
    elif scheme not in _OTHERS:
        _check_unknown(what, text, scheme, rest)
    return text


def is_server(uri: str) -> bool:
    """Whether ``uri`` is the web address of an MLflow server."""
    return uri.lower().startswith(("http:", "https:"))


def require_server(uri: str) -> None:
    """Raise :class:`RejectedError` for a web address without a host, or with port 0.

    ``start()`` has checked the address. A ``trackside sync`` much later may be given another one.
    """
    if is_server(uri) and _parts(uri) is None:
        raise RejectedError(
            f"tracking_uri {mask_address(uri)!r} names no server: it should look like http://host:5000"
        )


def database_file(uri: str) -> str | None:
    """The sqlite file at ``uri``. None for every other address."""
    prefix, found, path = plain_uri(uri).partition("sqlite:///")
    path = path.partition("?")[0]
    if prefix or not found or not path or path.startswith((":memory:", "file:")):
        return None
    return path_in(path)


def is_same_address(one: str, other: str) -> bool:
    """Whether both addresses lead to one store, whatever the user name and whether in bulk or not."""
    return _place(one) == _place(other)


def _place(uri: str) -> str:
    scheme, separator, rest = uri.strip().removeprefix(PREFIX).rstrip("/").partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def checked_artifact_location(location: str | None) -> str | None:
    """``location`` without white space around it.

    Raises :class:`ConfigurationError` for an address with too few slashes.
    """
    text = (location or "").strip()
    scheme, rest = _split(text)
    if scheme in {*_ARTIFACTS, *_SERVERS} and not rest.startswith("//"):
        _refuse("artifact_location", text, "lacks a slash", f"{scheme}://{rest.lstrip('/')}")
    return text or None


def _split(text: str) -> tuple[str, str]:
    """Scheme in lower case, and the rest. A host with a port has no scheme, nor has a path with a colon."""
    match = _SCHEME.fullmatch(text)
    if match is None or _HOST_AND_PORT.fullmatch(text) or (len(match[1]) == 1 and os.name == "nt"):
        return "", text
    return match[1].lower(), match[2]


def _check_path(what: str, text: str) -> None:
    """Accept a folder. Refuse a server without ``http://``, and a database file without ``sqlite:``."""
    if text in _OTHERS or os.path.isdir(os.path.expanduser(text)):
        return
    host, _, path = text.lstrip("/").partition("/")
    if host in {*_SERVERS, *DATABASES} and path.startswith("/"):
        _refuse(what, text, "lacks a colon, so MLflow would take it for a folder", f"{host}:/{path}")
    if _HOST_AND_PORT.fullmatch(text) or (not text.startswith("/") and _HOST.fullmatch(host)):
        port = "" if ":" in host or "." in host else ":5000"
        address = f"http://{host}{port}" + (f"/{path}" if path else "")
        _refuse(what, text, "has no scheme, so MLflow would take it for a folder", address)
    if os.path.isfile(text) or text.endswith(_DATABASE_FILE):
        _refuse(what, text, "is a file, and MLflow would take it for a folder", f"sqlite:///{text}")


def _check_server(what: str, text: str, rest: str) -> None:
    parts = _parts(text)
    if not rest.startswith("//"):
        _refuse(what, text, "lacks a slash", f"{text.partition(':')[0]}://{rest.lstrip('/') or 'host:5000'}")
    if parts is None or parts.netloc.endswith(":") or " " in text:
        _refuse(what, text, "names no server", "http://host:5000")
    if parts.fragment:
        _refuse(what, text, "is the address of a page", text.partition("#")[0].rstrip("/"))


def _parts(text: str) -> SplitResult | None:
    """The parts of a web address. None if it names no server, or a port that is not a number."""
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if named else None


def _check_database(what: str, text: str, scheme: str, rest: str) -> None:
    if scheme.removeprefix(PREFIX).partition("+")[0] != "sqlite":
        if not rest.startswith("//"):
            _refuse(what, text, "lacks a slash", f"{scheme}://{rest.lstrip('/')}")
        return
    file = rest.lstrip("/")
    if file.startswith(":memory:") or not file:
        _refuse(what, text, "is a database in memory, which ends with the shipper", "sqlite:///mlflow.db")
    if not rest.startswith("///"):
        _refuse(what, text, "needs three slashes before the file", f"{scheme}:///{file}")
    if file.startswith("~"):
        _refuse(
            what, text, "has a ~, which a database does not expand", f"{scheme}:///{Path(file).expanduser()}"
        )


def _check_unknown(what: str, text: str, scheme: str, rest: str) -> None:
    known = (*_SERVERS, *DATABASES, *_OTHERS)
    from importlib.metadata import entry_points  # not at each start: an eighth of its imports

    if scheme in {entry.name for entry in entry_points(group="mlflow.tracking_store")}:
        return
    if scheme in {"postgres", "psql", "pg"}:
        _refuse(what, text, "has a scheme that SQLAlchemy no longer knows", f"postgresql:{rest}")
    if scheme in _ARTIFACTS:
        raise ConfigurationError(
            f"{what} {mask_address(text)!r} is a place for files, where MLflow keeps no runs. "
            "Give it as artifact_location, and a server or a database as tracking_uri"
        )
    near = difflib.get_close_matches(scheme, known, n=1)
    if near and len(scheme) > _SHORTEST:
        _refuse(what, text, f"has the unknown scheme {scheme!r}", f"{near[0]}:{rest}")
    raise ConfigurationError(
        f"{what} {mask_address(text)!r} has the unknown scheme {scheme!r}. Write http://host:5000 for a "
        "server, sqlite:///mlflow.db for a database file, or a folder"
    )


def _refuse(what: str, text: str, fault: str, instead: str) -> NoReturn:
    raise ConfigurationError(f"{what} {mask_address(text)!r} {fault}. Write {mask_address(instead)}")
