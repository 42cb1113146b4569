"""Is this an address MLflow can work with? Asked before MLflow is, whose own answers come late or unclear.

MLflow tries a database ten times, for 100 s in all, before it says anything
(``create_sqlalchemy_engine_with_retry`` in ``mlflow/store/db/utils.py``), and takes ``http://`` for a
server named "api".
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trackside.bulk_store.uri import plain_uri
from trackside.errors import GoneError, RejectedError, RetryableError
from trackside.redaction.redact import mask_address
from trackside.system.file_lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator

_DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}
"""``DATABASE_ENGINES`` in ``mlflow/store/db/db_types.py``."""

LOCK_TIMEOUT = 20.0


def is_server(uri: str) -> bool:
    """Whether ``uri`` is the web address of an MLflow server."""
    return uri.lower().startswith(("http:", "https:"))


def check_address(uri: str) -> None:
    """Raise :class:`RejectedError` for a web address without a host, or with a port that is none."""
    if not is_server(uri):
        return
    try:
        parts = urlsplit(uri)
        fine = bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        msg = f"tracking_uri {mask_address(uri)!r} names no server: it should look like http://host:5000"
        raise RejectedError(msg)


def probe_database(uri: str) -> None:
    """Connect once to the database of ``uri``, if it is one. Raises what SQLAlchemy raises."""
    uri = plain_uri(uri)
    if uri.partition("://")[0].partition("+")[0] not in _DATABASES:
        return
    import sqlalchemy  # MLflow brings it where it can use databases

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        sqlalchemy.inspect(connection).has_table("alembic_version")


@contextmanager
def alone_with(uri: str) -> Iterator[None]:
    """Keep other shippers from the sqlite file of ``uri`` while its tables are made.

    Two processes that make them at once leave a database behind that nobody can ever open (seen with
    MLflow 3.17: "table _alembic_tmp_experiments already exists"), and two jobs started in a new
    folder are nothing rare.
    """
    path = database_file(uri)
    if path is None:
        yield
        return
    folder = os.path.dirname(path) or "."
    _make_folder(uri, folder)
    # A file of its own: ``flock mlflow.db``, or a ``flock`` of its folder, may be the user's.
    lock = FileLock(Path(folder, f".{os.path.basename(path)}.trackside-opening"), temporary=True)
    if not _take(lock):
        raise RetryableError(f"another job is opening the database in {folder}")
    try:
        yield
    finally:
        lock.release()


def _take(lock: FileLock) -> bool:
    try:
        return lock.acquire(patience=LOCK_TIMEOUT)
    except OSError:  # the file system, or the rights on the folder, allow no lock
        return True


def database_file(uri: str) -> str | None:
    """The sqlite file at ``uri``; None for everything else."""
    prefix, found, path = plain_uri(uri).partition("sqlite:///")
    path = path.partition("?")[0]
    if prefix or not found or not path or path.startswith((":memory:", "file:")):
        return None
    return path


def existing_part(uri: str) -> str | None:
    """The sqlite file at ``uri``, or else its folder, if it is there."""
    path = database_file(uri)
    parts = [] if path is None else [path, os.path.dirname(path)]
    return next((part for part in parts if os.path.exists(part)), None)


def require_path(path: str | None) -> None:
    """Raise :class:`GoneError` for a sqlite file, or its folder, that is not there any more.

    To connect would make an empty database.
    """
    if path is not None and not os.path.exists(path):
        msg = (
            f"{path} was removed; it is not made again, and metrics wait until it is back "
            "(to deliver elsewhere: trackside sync --tracking-uri ...)"
        )
        raise GoneError(msg)


def _make_folder(uri: str, folder: str) -> None:
    """MLflow 3.6 does not make the folder of a new sqlite file."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        msg = f"tracking_uri {uri!r}: the folder {folder} cannot be made ({error.strerror})"
        raise RejectedError(msg) from error
