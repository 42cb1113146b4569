"""What can be held against a run before MLflow is imported. The trainer asks once, as it starts.

Invariants:

* Only what will not mend itself is a refusal: wrong credentials, a deleted experiment, a run that does not
  exist, a file that is not a database, a driver that is not installed.
* What can't be told in :data:`PATIENCE` seconds is no refusal, and is no error either. The shipper meets it
  again, with MLflow's own words.
* Nothing is written, and nothing is made. A ``sqlite3.py`` of the user's is not run in place of Python's.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from typing import TYPE_CHECKING

from trackside.bulk_store.uri import plain_uri
from trackside.destinations.mlflow.address import database_file, is_server
from trackside.destinations.mlflow.findings import NOTHING, Finding

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.journal.meta import Target

PATIENCE = 0.15
"""Seconds from the question to a server until its answer no longer counts."""

_DRIVERS = {
    "postgresql": ("psycopg2", "psycopg"),
    "postgresql+psycopg2": ("psycopg2",),
    "postgresql+psycopg": ("psycopg",),
    "postgresql+pg8000": ("pg8000",),
    "mysql": ("MySQLdb",),
    "mysql+mysqldb": ("MySQLdb",),
    "mysql+pymysql": ("pymysql",),
    "mssql": ("pyodbc",),
    "mssql+pyodbc": ("pyodbc",),
    "mssql+pymssql": ("pymssql",),
}
"""Modules that SQLAlchemy needs for a scheme, any one of them."""


def begin_check(target: Target) -> Callable[[], Finding]:
    """Start to look at the store of ``target``, whose address has its credentials.

    The result waits for what was found, at most until :data:`PATIENCE` is over. Neither raises.
    """
    if is_server(target.tracking_uri):
        if not _is_pythons("http"):
            return lambda: NOTHING
        from trackside.destinations.mlflow.server_check import ServerCheck

        return ServerCheck(target, PATIENCE).finding
    return lambda: Finding(_refusal(target))


def _refusal(target: Target) -> str | None:
    file = database_file(target.tracking_uri)
    with contextlib.suppress(Exception):  # whatever it is, MLflow will say it better
        if file is None:
            return _missing_driver(target.tracking_uri)
        if not _is_pythons("sqlite3"):
            return None
        from trackside.destinations.mlflow.sqlite_check import why_refused

        return why_refused(file, target)
    return None


def _is_pythons(module: str) -> bool:
    """Whether an import of ``module`` finds the standard library's, and not a file of the user's."""
    spec = importlib.util.find_spec(module)
    return spec is not None and str(spec.origin).startswith(os.path.dirname(os.__file__) + os.sep)


def _missing_driver(uri: str) -> str | None:
    modules = _DRIVERS.get(plain_uri(uri).partition("://")[0], ())
    if not modules or any(importlib.util.find_spec(module) is not None for module in modules):
        return None
    return f"the database's driver is not installed: pip install what brings {modules[0]!r}"
