"""The database of a tracking address: connected to once, alone, before MLflow opens it.

MLflow tries a database ten times, for 100 s in all, before it reports anything
(``create_sqlalchemy_engine_with_retry`` in ``mlflow/store/db/utils.py``).
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from trackside.bulk_store.uri import plain_uri
from trackside.destinations.mlflow.address import DATABASES, database_file
from trackside.errors import GoneError, RejectedError, RetryableError
from trackside.system.file_lock import FileLock

if TYPE_CHECKING:
    from collections.abc import Iterator

LOCK_TIMEOUT = 20.0


def probe_database(uri: str) -> None:
    """Connect once to the database of ``uri``, if it is one. Raises what SQLAlchemy raises."""
    uri = plain_uri(uri)
    if uri.partition("://")[0].partition("+")[0] not in DATABASES:
        return
    import sqlalchemy  # MLflow brings it where it can use databases

    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        sqlalchemy.inspect(connection).has_table("alembic_version")


@contextmanager
def alone_with(uri: str) -> Iterator[None]:
    """Keep other shippers from the sqlite file of ``uri`` while its tables are made.

    Two processes that make them at once leave a database that can never be opened (seen with MLflow 3.17:
    "table _alembic_tmp_experiments already exists"). Two jobs started in a new folder are common.
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


def existing_part(uri: str) -> str | None:
    """The sqlite file at ``uri`` or, if there is no file yet, its folder. None if that is missing, too."""
    path = database_file(uri)
    parts = [] if path is None else [path, os.path.dirname(path)]
    return next((part for part in parts if os.path.exists(part)), None)


def require_path(path: str | None) -> None:
    """Raise :class:`GoneError` if ``path``, a sqlite file or its folder, was removed.

    MLflow would make an empty database there.
    """
    if path is not None and not os.path.exists(path):
        raise GoneError(
            f"{path} was removed. It is not made again, and metrics wait until it is back. To deliver them "
            "elsewhere, run trackside sync --tracking-uri ..."
        )


def _make_folder(uri: str, folder: str) -> None:
    """Make the folder of a new sqlite file, which MLflow 3.6 does not do."""
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise RejectedError(
            f"tracking_uri {uri!r}: the folder {folder} cannot be made ({error.strerror})"
        ) from error
