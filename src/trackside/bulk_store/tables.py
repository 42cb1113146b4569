"""The SQL that writes rows in bulk, for each database.

A row that is there already stays as it is (the tables' primary keys tell), and a latest metric gives way
to a later one only, in the same statement; so several writers need no lock. PostgreSQL's rows are written
in one order by everybody: two writers that send the same points would wait for each other otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import sqlalchemy

from trackside.bulk_store.points import COLUMNS, Row, latest_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_NAMES = ", ".join(COLUMNS)
_NEWER = """
    ON CONFLICT (key, run_uuid) DO UPDATE
    SET step = excluded.step, timestamp = excluded.timestamp, value = excluded.value, is_nan = excluded.is_nan
    WHERE (excluded.step, excluded.timestamp, excluded.value)
        > (latest_metrics.step, latest_metrics.timestamp, latest_metrics.value)
"""


def write_sqlite(connection: sqlalchemy.Connection, rows: Sequence[Row]) -> None:
    """Prepared once, executed for each row. Beside the cost of the indexes, the calls are cheap."""
    values = f"({_NAMES}) VALUES (?, ?, ?, ?, ?, ?)"
    connection.exec_driver_sql(f"INSERT INTO metrics {values} ON CONFLICT DO NOTHING", list(rows))
    connection.exec_driver_sql(f"INSERT INTO latest_metrics {values} {_NEWER}", latest_of(rows))


_ROWS = """
    SELECT key, step, timestamp, value, is_nan, CAST(:run_uuid AS varchar)
    FROM unnest(
        CAST(:key AS varchar[]), CAST(:step AS bigint[]), CAST(:timestamp AS bigint[]),
        CAST(:value AS double precision[]), CAST(:is_nan AS boolean[])
    ) WITH ORDINALITY AS points (key, step, timestamp, value, is_nan, number)
"""
_METRICS = sqlalchemy.text(
    f"INSERT INTO metrics ({_NAMES}) {_ROWS}"
    " ORDER BY key, step, timestamp, value, is_nan, number ON CONFLICT DO NOTHING"
)
_LATEST = sqlalchemy.text(f"INSERT INTO latest_metrics ({_NAMES}) {_ROWS} ORDER BY key {_NEWER}")


def write_postgresql(connection: sqlalchemy.Connection, rows: Sequence[Row]) -> None:
    """Columns travel as array literals: one statement for each batch, the same with every driver.

    COPY into a temporary table took the same time within the noise, and needs psycopg2's own calls.
    """
    connection.execute(_METRICS, _arrays(rows))
    connection.execute(_LATEST, _arrays(latest_of(rows)))


Writer: TypeAlias = "Callable[[sqlalchemy.Connection, Sequence[Row]], None]"
"""Adds the new ones of the rows to ``metrics``, and brings ``latest_metrics`` up to date."""

WRITERS: dict[str, Writer] = {"sqlite": write_sqlite, "postgresql": write_postgresql}
"""By SQLAlchemy's name of the dialect. Each writes over a connection, in its transaction."""


def is_active(connection: sqlalchemy.Connection, run_id: str) -> bool:
    """Whether the run exists and is not deleted."""
    query = sqlalchemy.text("SELECT lifecycle_stage FROM runs WHERE run_uuid = :run_id")
    return connection.execute(query, {"run_id": run_id}).scalars().all() == ["active"]


def _arrays(rows: Sequence[Row]) -> dict[str, str]:
    """The rows' columns as array literals. A plain key has nothing in it that needs an escape."""
    keys, steps, timestamps, values, are_nan, run_ids = zip(*rows, strict=True)
    return {
        "key": '{"' + '","'.join(keys) + '"}',
        "step": _array(map(str, steps)),
        "timestamp": _array(map(str, timestamps)),
        "value": _array(map(repr, values)),
        "is_nan": _array("t" if is_nan else "f" for is_nan in are_nan),
        "run_uuid": run_ids[0],
    }


def _array(items: Iterable[str]) -> str:
    return "{" + ",".join(items) + "}"
