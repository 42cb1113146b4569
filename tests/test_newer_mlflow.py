"""What compares two versions of MLflow finds what changed, and says nothing of what did not."""

from __future__ import annotations

import ast
from pathlib import Path
from textwrap import dedent

import pytest

import trackside
from tests.newer_mlflow.changes import CHANGED, GONE, NEW, Change, compare
from tests.newer_mlflow.definitions import Sources
from tests.newer_mlflow.leaned_on import LEANED_ON, Leaning
from tests.newer_mlflow.tables import MIGRATIONS, Migration, new_migrations, schema_changes

PACKAGE = Path(trackside.__file__).parent

STORE = """
    from ..checks import check as _check
    from mlflow.rows import Row
    from mlflow.base import Base, unrelated

    LIMIT = 10

    class Store(Base):
        '''Keeps rows.'''

        def log(self, rows: list) -> None:
            '''Write them.'''
            _check(rows)
            for row in rows[:LIMIT]:
                self._write(Row(row))

        def _write(self, row):
            self._connect().add(row)

        def other(self):
            return unrelated()
"""
BASE = """
    class Base:
        def _connect(self):
            from mlflow import pool
            return pool.get()

    def unrelated():
        return 1
"""
CHECKS = """
    import re

    _NAME = re.compile("a+")

    def check(rows):
        if not _NAME.match(rows[0]):
            raise ValueError(rows)
"""
FILES = {
    "store/sql.py": STORE,
    "base.py": BASE,
    "checks.py": CHECKS,
    "rows.py": "class Row:\n    kept = True",
    "__init__.py": "",
    "store/__init__.py": "from mlflow.store.sql import Store",
}
LOG = Leaning("mlflow.store:Store.log", "ours.py", how="followed")
REACHED = {
    "mlflow.base:Base._connect",
    "mlflow.checks:_NAME",
    "mlflow.checks:check",
    "mlflow.rows:Row",
    "mlflow.store.sql:LIMIT",
    "mlflow.store.sql:Store._write",
    "mlflow.store.sql:Store.log",
}


def sources(folder: Path, **changed: str) -> Sources:
    """A package in ``folder``: :data:`FILES`, with a few files replaced (``store_sql="..."``)."""
    new = {name.replace("_", "/") + ".py": text for name, text in changed.items()}
    for name, text in (FILES | new).items():
        path = folder / "mlflow" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text))
    return Sources(folder)


def changes(folder: Path, *leanings: Leaning, **changed: str) -> list[Change]:
    """What ``changed`` makes of the package, for ``leanings``."""
    return compare(sources(folder / "old"), sources(folder / "new", **changed), leanings or (LOG,))


def test_a_definition_reaches_what_it_mentions(tmp_path: Path) -> None:
    """Functions, inherited and own methods, classes and constants, through imports. Nothing else."""
    assert set(sources(tmp_path).reach("mlflow.store:Store.log")) == REACHED


def test_the_same_sources_have_no_changes(tmp_path: Path) -> None:
    """Nor have comments, docstrings, annotations, line breaks, and code that nothing reaches."""
    text = STORE.replace("'''Write them.'''", "# as told").replace("rows: list", "rows: 'tuple'")
    text = text.replace("return unrelated()", "return 2").replace("_check(rows)", "_check((rows))")
    assert changes(tmp_path, store_sql=text, base=BASE.replace("return 1", "return 2")) == []


@pytest.mark.parametrize(
    ("file", "before", "after", "name"),
    [
        ("store_sql", "LIMIT = 10", "LIMIT = 20", "mlflow.store.sql:LIMIT"),
        ("store_sql", "rows[:LIMIT]", "rows[LIMIT:]", "mlflow.store.sql:Store.log"),
        ("store_sql", ".add(row)", ".merge(row)", "mlflow.store.sql:Store._write"),
        ("base", "pool.get()", "pool.get(1)", "mlflow.base:Base._connect"),
        ("checks", '"a+"', '"b+"', "mlflow.checks:_NAME"),
        ("checks", ".match(", ".fullmatch(", "mlflow.checks:check"),
    ],
)
def test_a_change_below_is_found(tmp_path: Path, file: str, before: str, after: str, name: str) -> None:
    """However far below what trackside leans on, with the file of ours and the lines."""
    whole = {"store_sql": STORE, "base": BASE, "checks": CHECKS}[file]
    (change,) = changes(tmp_path, **{file: whole.replace(before, after)})
    assert (change.name, change.kind, change.users) == (name, CHANGED, ("ours.py",))
    added = "".join(line for line in change.diff() if line.startswith("+"))
    assert after.strip('"') in added


def test_what_is_gone_and_what_is_new(tmp_path: Path) -> None:
    """A method that moved to another name is both."""
    found = changes(tmp_path, store_sql=STORE.replace("_write", "_write_once"))
    kinds = {change.name.rpartition(".")[2]: change.kind for change in found}
    assert kinds == {"log": CHANGED, "_write": GONE, "_write_once": NEW}


def test_what_is_not_followed_is_compared_alone(tmp_path: Path) -> None:
    """A change below it is not ours."""
    assert (
        changes(tmp_path, Leaning("mlflow.store:Store.log", "ours.py"), checks="def check(rows): pass") == []
    )


def test_a_new_abstract_method_is_found(tmp_path: Path) -> None:
    """A new method that a subclass may leave alone is not."""
    leaning = Leaning("mlflow.base:Base", "ours.py", how="abstract")
    more = BASE.replace("class Base:", "class Base:\n        def hook(self): pass\n")
    assert changes(tmp_path / "one", leaning, base=more) == []
    abstract = more.replace("def hook", "@abstractmethod\n        def hook")
    (change,) = changes(tmp_path / "two", leaning, base=abstract)
    assert change.diff()[-1] == "+hook"


def test_new_migrations_and_the_tables_they_name(tmp_path: Path) -> None:
    """By name in a call, or in SQL."""
    texts = {
        "a1_first.py": "op.create_table('metrics')",
        "b2_other.py": "op.add_column('issues', x)",
        "c3_ours.py": "with op.batch_alter_table('latest_metrics'): pass",
        "d4_sql.py": "op.execute('UPDATE runs SET x = 1')",
    }
    for version, names in (("old", ["a1_first.py"]), ("new", list(texts))):
        folder = tmp_path / version / MIGRATIONS
        folder.mkdir(parents=True)
        for name in names:
            (folder / name).write_text(texts[name])
    assert new_migrations(tmp_path / "old", tmp_path / "new") == [
        Migration("b2_other", ()),
        Migration("c3_ours", ("latest_metrics",)),
        Migration("d4_sql", ("runs",)),
    ]
    assert new_migrations(tmp_path / "new", tmp_path / "new") == []


def test_a_table_that_differs_is_told_by_its_parts() -> None:
    """A column of another type, a column that is new, another index, a trigger."""
    columns = {"key": ["VARCHAR(250)", False, None], "value": ["FLOAT", False, None]}
    before = {"metrics": {"columns": columns, "indexes": []}, "triggers": []}
    assert schema_changes(before, before) == []
    wider = columns | {"key": ["VARCHAR(500)", False, None], "unit": ["TEXT", True, None]}
    after = {"metrics": {"columns": wider, "indexes": [[["key"], True]]}, "triggers": ["audit"]}
    assert schema_changes(before, after) == [
        'metrics indexes: [] -> [[["key"], true]]',
        'metrics key: ["VARCHAR(250)", false, null] -> ["VARCHAR(500)", false, null]',
        'metrics unit: nothing -> ["TEXT", true, null]',
        'triggers: [] -> ["audit"]',
    ]


PUBLIC = ("mlflow.entities", "mlflow.entities.model_registry", "mlflow.tracking")
"""Modules of MLflow's documented API."""


def test_whatever_is_imported_from_within_mlflow_is_compared() -> None:
    """A new import of something that MLflow may change at will belongs in the list."""
    imported = {
        f"{node.module}:{alias.name}"
        for path in PACKAGE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mlflow.")
        for alias in node.names
        if node.module not in PUBLIC
    }
    compared = {leaning.name for leaning in LEANED_ON}
    assert imported
    assert [name for name in sorted(imported) if not any(known.startswith(name) for known in compared)] == []


def test_the_files_that_lean_on_mlflow_exist() -> None:
    """The report sends you to them."""
    root = PACKAGE.parents[1]
    if (root / "pyproject.toml").exists():  # not the wheel's
        assert [item.user for item in LEANED_ON if not (root / item.user).is_file()] == []
    else:
        assert [
            i.user for i in LEANED_ON if not (PACKAGE.parent / i.user.removeprefix("src/")).is_file()
        ] == []
