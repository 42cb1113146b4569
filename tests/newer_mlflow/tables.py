"""The tables that the bulk store writes: what migrations do to them, and what they are in the end."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

TABLES = ("metrics", "latest_metrics", "runs")

MIGRATIONS = "mlflow/store/db_migrations/versions"

_PRINT_SCHEMA = """
import json, sys, warnings
warnings.simplefilter("ignore")
import sqlalchemy
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
folder, *names = sys.argv[1:]
engine = SqlAlchemyStore(f"sqlite:///{folder}/mlflow.db", folder).engine
tables = sqlalchemy.inspect(engine)
made = {name: {
    "columns": {c["name"]: [str(c["type"]), c["nullable"], c["default"]] for c in tables.get_columns(name)},
    "primary key": tables.get_pk_constraint(name)["constrained_columns"],
    "indexes": sorted([index["column_names"], index["unique"]] for index in tables.get_indexes(name)),
    "unique": sorted(unique["column_names"] for unique in tables.get_unique_constraints(name)),
    "checks": sorted(check["sqltext"] for check in tables.get_check_constraints(name)),
    "refers to": sorted([key["constrained_columns"], key["referred_table"]]
        for key in tables.get_foreign_keys(name)),
} for name in names}
triggers = engine.connect().exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'")
print(json.dumps(made | {"triggers": sorted(triggers.scalars())}))
"""


@dataclass(frozen=True)
class Migration:
    """A migration that only the newer version has, or has otherwise."""

    name: str
    tables: tuple[str, ...]
    """Those of :data:`TABLES` that it names."""


def new_migrations(before: Path, after: Path) -> list[Migration]:
    """Migrations that the sources in ``after`` have, and those in ``before`` have not, or otherwise."""
    old, new = _read_migrations(before), _read_migrations(after)
    return [
        Migration(name, tuple(table for table in TABLES if table in _texts(tree)))
        for name, tree in sorted(new.items())
        if name not in old or ast.dump(old[name]) != ast.dump(tree)
    ]


def schema(sources: Path, tables: tuple[str, ...] = TABLES) -> dict[str, Any] | str:
    """The tables that MLflow in ``sources`` makes in a new sqlite file, or why it made none.

    What MLflow needs is taken from this interpreter's environment.
    """
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, "-c", _PRINT_SCHEMA, folder, *tables],
            env={**os.environ, "PYTHONPATH": str(sources)},
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def schema_changes(before: dict[str, Any], after: dict[str, Any]) -> list[str]:
    """A line for each part of a table that differs."""
    old, new = (dict(_parts(made)) for made in (before, after))
    return [
        f"{part}: {old.get(part, 'nothing')} -> {new.get(part, 'nothing')}"
        for part in sorted(old.keys() | new.keys())
        if old.get(part) != new.get(part)
    ]


def _parts(made: dict[str, Any]) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for table, parts in made.items():
        for part, value in parts.items() if isinstance(parts, dict) else [("", parts)]:
            if part == "columns":
                found += [(f"{table} {column}", json.dumps(kind)) for column, kind in value.items()]
            else:
                found.append((f"{table} {part}".strip(), json.dumps(value)))
    return found


def _read_migrations(sources: Path) -> dict[str, ast.Module]:
    return {path.stem: ast.parse(path.read_text("utf-8")) for path in (sources / MIGRATIONS).glob("*.py")}


def _texts(tree: ast.Module) -> set[str]:
    """The strings in ``tree``, and the words of those that are SQL."""
    texts = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    return {word.strip("(),;\"'`") for text in texts if isinstance(text, str) for word in text.split()}
