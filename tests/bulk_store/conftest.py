"""What the comparisons share. Each module brings its own ``shared_pair``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import sqlalchemy

from tests.bulk_store.pair import Pair
from tests.faults.postgres import server_or_skip

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def pair(shared_pair: Pair) -> Pair:
    """The databases, with a new run in each."""
    shared_pair.renew()
    return shared_pair


@pytest.fixture(scope="module")
def postgres_pair() -> Iterator[Pair]:
    """Two databases of one PostgreSQL server."""
    with server_or_skip() as server:
        base = server.uri.removesuffix("/postgres")
        engine = sqlalchemy.create_engine(server.uri, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            for name in ("stock", "ours"):
                connection.exec_driver_sql(f"CREATE DATABASE {name}")
        engine.dispose()
        yield Pair(f"{base}/stock", f"trackside+{base}/ours")
