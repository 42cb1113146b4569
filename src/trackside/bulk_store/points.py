"""Which points may be written in bulk, and their rows. Pure.

The rule that keeps MLflow's semantics: what is not plainly valid here is not judged here. It goes to
MLflow's own ``log_batch``, which refuses it in its own words or stores it in its own way. So these checks
may be stricter than MLflow's (``mlflow/utils/validation.py``), and must never be laxer.
"""

from __future__ import annotations

import posixpath
import re
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from trackside.names import MAX_KEY_LENGTH

if TYPE_CHECKING:
    from collections.abc import Iterable

PlainPoint: TypeAlias = "tuple[str, float, int, int]"
"""Key, value, timestamp in milliseconds, step: the order of ``mlflow.entities.Metric``'s arguments."""

LinkedPoint: TypeAlias = "tuple[str, float, int, int, str | None, str | None, str | None]"
"""The same, with the id of a logged model, and the name and digest of a dataset."""

Point: TypeAlias = "PlainPoint | LinkedPoint"

PLAIN: Final = 4
"""Fields of a plain point. A linked one has more."""

Row: TypeAlias = "tuple[str, int, int, float, bool, str]"
"""Values of :data:`COLUMNS`. Step, timestamp and value, in this order, say which row is the latest."""

COLUMNS = ("key", "step", "timestamp", "value", "is_nan", "run_uuid")

MAX_TEXT = 5000
"""Characters of a tag's value, below the limit of every version."""

_MAX_BIGINT = 2**63 - 1
_MAX_EXACT_INT = 2**53
_MAX_DOUBLE = 1.7976931348623157e308
_RUN_ID = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_-]{0,255}")
_KEY = re.compile(r"[/\w.\- ]+" if sys.platform == "win32" else r"[/\w.\- :]+")


def rows_of(run_id: str, points: Iterable[PlainPoint]) -> list[Row] | None:
    """Return a row for each point, or None if MLflow's own ``log_batch`` must judge one of them.

    NaN and the infinities are what ``SqlAlchemyStore.sanitize_metric_value`` makes of them. Minus zero loses
    its sign, as it does on MLflow's way into sqlite (its file format) and PostgreSQL (psycopg2's literals).
    """
    rows: list[Row] = []
    for key, value, timestamp, step in points:
        if not _is_plain(key, value, timestamp, step):
            return None
        if -_MAX_DOUBLE <= value <= _MAX_DOUBLE:
            rows.append((key, step, timestamp, value + 0.0, False, run_id))  # -0.0 becomes 0.0
        elif value != value:  # noqa: PLR0124 - NaN
            rows.append((key, step, timestamp, 0.0, True, run_id))
        else:
            rows.append((key, step, timestamp, _MAX_DOUBLE if value > 0 else -_MAX_DOUBLE, False, run_id))
    return rows


def latest_of(rows: Iterable[Row]) -> list[Row]:
    """Return the latest row of each key. Of equal rows the first one counts, as in MLflow."""
    latest: dict[str, Row] = {}
    for row in rows:
        best = latest.get(row[0])
        if best is None or row[1:4] > best[1:4]:
            latest[row[0]] = row
    return list(latest.values())


def is_plain_run_id(run_id: Any) -> bool:
    """Whether MLflow certainly accepts such a run id."""
    return type(run_id) is str and _RUN_ID.fullmatch(run_id) is not None


def is_plain_tag(key: Any, value: Any) -> bool:
    """Whether MLflow certainly accepts the tag."""
    return type(key) is str and _is_plain_key(key) and type(value) is str and len(value) <= MAX_TEXT


def _is_plain(key: Any, value: Any, timestamp: Any, step: Any) -> bool:
    return (
        (type(value) is float or (type(value) is int and -_MAX_EXACT_INT <= value <= _MAX_EXACT_INT))
        and type(timestamp) is int
        and 0 <= timestamp <= _MAX_BIGINT
        and type(step) is int
        and -_MAX_BIGINT <= step <= _MAX_BIGINT
        and type(key) is str
        and _is_plain_key(key)
    )


@lru_cache(maxsize=65_536)
def _is_plain_key(key: str) -> bool:
    if len(key) > MAX_KEY_LENGTH or not _KEY.fullmatch(key):
        return False
    normal = posixpath.normpath(key)
    return normal == key and normal != "." and not normal.startswith(("..", "/"))
