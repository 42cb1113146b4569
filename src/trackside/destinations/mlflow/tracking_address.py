"""Is this an address of MLflow? Asked at ``start()``, from its text alone: no network, no import of MLflow.

MLflow takes whatever has no scheme for a folder, so ``localhost:5000`` makes a folder of that name, or fails
later with a message about file stores. Each mistake here gets an error that says what to write instead.
"""

from __future__ import annotations

import difflib
import os
import re
from importlib.metadata import entry_points
from pathlib import Path
from typing import NoReturn
from urllib.parse import SplitResult, urlsplit

from trackside.errors import ConfigurationError
from trackside.redaction.redact import mask_address

__all__ = ["checked_address", "checked_artifact_location", "is_same_address"]

_SERVERS = ("http", "https")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
"""``DATABASE_ENGINES`` in ``mlflow/store/db/db_types.py``."""
_OTHERS = ("file", "databricks", "databricks-uc", "uc")
_ARTIFACTS = ("s3", "gs", "wasbs", "abfss", "hdfs", "dbfs", "azureml", "r2", "b2", "ftp", "sftp")
"""Schemes that MLflow takes for artifacts, not for runs."""
_BULK = "trackside+"

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

    Raises :class:`ConfigurationError` for what MLflow would take for something else, or not at all; ``what``
    is where the address was given.
    """
    text = uri.strip()
    if not text:
        msg = f"{what} is empty; give an address such as sqlite:///mlflow.db or http://host:5000, or None"
        raise ConfigurationError(msg)
    if text[0] in "'\"":
        _refuse(what, text, "has quotes in it", text.strip("'\""))
    if _VARIABLE.search(text):
        _refuse(what, text, "has a variable in it that nothing has replaced", "its value")
    scheme, rest = _split(text)
    if not scheme:
        _check_path(what, text)
    elif scheme in _SERVERS:
        _check_server(what, text, rest)
    elif scheme.removeprefix(_BULK).partition("+")[0] in _DATABASES:
        _check_database(what, text, scheme, rest)
    elif scheme not in _OTHERS:
        _check_unknown(what, text, scheme, rest)
    return text


def is_same_address(one: str, other: str) -> bool:
    """Whether both are one store, whoever logs in there and however it is written to."""
    return _place(one) == _place(other)


def _place(uri: str) -> str:
    scheme, separator, rest = uri.strip().removeprefix(_BULK).rstrip("/").partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}"


def checked_artifact_location(location: str | None) -> str | None:
    """``location`` without white space around it; raises for an address with too few slashes."""
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
    """A folder is a store of MLflow's. A server without ``http://`` is none, nor is a database file."""
    if text in _OTHERS or os.path.isdir(os.path.expanduser(text)):
        return
    host, _, path = text.lstrip("/").partition("/")
    if host in {*_SERVERS, *_DATABASES} and path.startswith("/"):
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
    """The parts of a web address; None where no server is named, or a port that is not a number."""
    try:
        parts = urlsplit(text)
        named = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if named else None


def _check_database(what: str, text: str, scheme: str, rest: str) -> None:
    if scheme.removeprefix(_BULK).partition("+")[0] != "sqlite":
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
    known = (*_SERVERS, *_DATABASES, *_OTHERS)
    if scheme in {entry.name for entry in entry_points(group="mlflow.tracking_store")}:
        return
    if scheme in {"postgres", "psql", "pg"}:
        _refuse(what, text, "has a scheme that SQLAlchemy no longer knows", f"postgresql:{rest}")
    if scheme in _ARTIFACTS:
        msg = (
            f"{what} {mask_address(text)!r} is a place for files, where MLflow keeps no runs; "
            "give it as artifact_location, and a server or a database as tracking_uri"
        )
        raise ConfigurationError(msg)
    near = difflib.get_close_matches(scheme, known, n=1)
    if near and len(scheme) > _SHORTEST:
        _refuse(what, text, f"has the unknown scheme {scheme!r}", f"{near[0]}:{rest}")
    msg = (
        f"{what} {mask_address(text)!r} has the unknown scheme {scheme!r}; write http://host:5000 for a "
        "server, sqlite:///mlflow.db for a database file, or a folder"
    )
    raise ConfigurationError(msg)


def _refuse(what: str, text: str, fault: str, instead: str) -> NoReturn:
    raise ConfigurationError(f"{what} {mask_address(text)!r} {fault}; write {mask_address(instead)}")
