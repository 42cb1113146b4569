"""A first look at MLflow's tables in a sqlite file, read-only: the experiment and the run that are asked for.

A file that is locked, or has tables that we do not know, is not at fault here. The shipper opens it with
MLflow.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING
from urllib.parse import quote

from trackside.destinations.mlflow.findings import deleted_experiment, deleted_run

if TYPE_CHECKING:
    from trackside.journal.meta import Target

BUSY = 0.05
"""Seconds to wait for a lock."""

_NOT_A_DATABASE = "file is not a database"


def why_refused(file: str, target: Target) -> str | None:
    """Why no run can be opened as ``target`` asks for it, or None. Raises nothing of sqlite's."""
    if not os.path.exists(file):
        return _why_not_made(os.path.dirname(file)) or _run_that_is_not_there(target)
    if os.path.isdir(file) or not os.access(file, os.R_OK):
        return "check that the sqlite file is a file, and that you may read and write it"
    return _look_into(file, target) if os.path.isfile(file) else None


def _look_into(file: str, target: Target) -> str | None:
    try:
        address = f"file:{quote(file)}?mode=ro"
        with contextlib.closing(sqlite3.connect(address, uri=True, timeout=BUSY)) as database:
            return _look(database, target)
    except sqlite3.OperationalError:  # locked, no such table, no such column
        return None
    except sqlite3.DatabaseError as error:
        if _NOT_A_DATABASE in str(error):
            return f"the sqlite file holds something else: name another one ({error})"
        return None


def _why_not_made(folder: str) -> str | None:
    """Why no file can be made in ``folder``, or None. What is missing above it is made, too."""
    place = folder
    while not os.path.exists(place) and os.path.dirname(place) != place:
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        return f"the folder {folder} cannot be made ({place} is a file)"
    if not os.access(place, os.W_OK | os.X_OK):
        return (
            f"check that the folder of the sqlite file exists and can be written (you may not write {place})"
        )
    return None


def _run_that_is_not_there(target: Target) -> str | None:
    if target.required_run and target.run_id is not None:
        return f"run {target.run_id!r} does not exist: there is no such file yet"
    return None


def _look(database: sqlite3.Connection, target: Target) -> str | None:
    if target.required_run and target.run_id is not None:
        found = database.execute("SELECT lifecycle_stage FROM runs WHERE run_uuid = ?", [target.run_id])
        stages = [stage for (stage,) in found]
        if not stages:
            return f"run {target.run_id!r} does not exist there"
        return deleted_run(target.run_id) if stages == ["deleted"] else None
    column, value = "experiment_id", target.experiment_id
    if value is None:
        column, value = "name", target.experiment_name or "Default"
    elif not value.isdecimal():
        return None
    statement = f"SELECT name, experiment_id, lifecycle_stage FROM experiments WHERE {column} = ?"  # noqa: S608
    experiments = database.execute(statement, [value]).fetchall()
    if experiments and all(stage == "deleted" for *_, stage in experiments):
        return deleted_experiment(*experiments[0][:2])
    if not experiments and column == "experiment_id":
        return f"experiment {value} does not exist there"
    return None
