"""Databases of a PostgreSQL server, which MLflow reaches without a server of its own in between."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import pytest
import sqlalchemy
from mlflow.tracking import MlflowClient

from tests.faults.postgres import server_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator

NewDatabase: TypeAlias = Callable[[str], str]
"""Makes a database of that name, with MLflow's tables. Returns its address."""

_CUT = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'made'"
"""MLflow keeps its connections, and a database that has some can't be copied."""


@pytest.fixture(scope="session")
def new_postgres() -> Iterator[NewDatabase]:
    """Makes databases of one server. MLflow makes the tables once."""
    with server_or_skip() as server:
        base = server.uri.removesuffix("/postgres")
        engine = sqlalchemy.create_engine(server.uri, isolation_level="AUTOCOMMIT")

        def make(name: str) -> str:
            with engine.connect() as connection:
                connection.exec_driver_sql(f"CREATE DATABASE {name} TEMPLATE made")
            return f"{base}/{name}"

        with engine.connect() as connection:
            connection.exec_driver_sql("CREATE DATABASE made")
            MlflowClient(f"{base}/made").search_experiments()
            connection.exec_driver_sql(_CUT)
        yield make
        engine.dispose()
