"""Is this an address MLflow can work with? Asked before MLflow is, whose own answers come late or unclear.

MLflow tries a database ten times, for 100 s in all, before it says anything
(``create_sqlalchemy_engine_with_retry`` in ``mlflow/store/db/utils.py``), and takes ``http://`` for a
server named "api".
"""

from __future__ import annotations

import os
from urllib.parse import urlsplit

from trackside.errors import RejectedError
from trackside.masking import mask_uri

_DATABASES = {"sqlite", "postgresql", "mysql", "mssql"}
"""``DATABASE_ENGINES`` in ``mlflow/store/db/db_types.py``."""


def check_address(uri: str) -> None:
    """Raise :class:`RejectedError` for a web address without a host, or with a port that is none."""
    if not uri.lower().startswith(("http:", "https:")):
        return
    try:
        parts = urlsplit(uri)
        fine = bool(parts.hostname) and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        msg = f"tracking_uri {mask_uri(uri)!r} names no server: it should look like http://host:5000"
        raise RejectedError(msg)


def probe_database(uri: str) -> None:
    """Connect once to the database of ``uri``, if it is one. Raises what SQLAlchemy raises."""
    if uri.partition("://")[0].partition("+")[0] not in _DATABASES:
        return
    import sqlalchemy  # MLflow brings it where it can use databases

    _make_folder(uri)
    engine = sqlalchemy.create_engine(uri, poolclass=sqlalchemy.pool.NullPool)
    with engine.connect() as connection:
        sqlalchemy.inspect(connection).has_table("alembic_version")


def _make_folder(uri: str) -> None:
    """MLflow 3.6 does not make the folder of a new sqlite file."""
    prefix, _, path = uri.partition("sqlite:///")
    folder = os.path.dirname(path)
    if prefix or not folder:
        return
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        msg = f"tracking_uri {uri!r}: the folder {folder} cannot be made ({error.strerror})"
        raise RejectedError(msg) from error
