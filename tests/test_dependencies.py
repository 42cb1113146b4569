"""What the package imports is declared, and what is declared is imported."""

from __future__ import annotations

import ast
import functools
import importlib
import re
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import trackside

SOURCE = Path(trackside.__file__).parent
FOR_DEVELOPERS = {"all", "bench", "dev", "lint", "test"}
UNNAMED = {"hydra": "hydra-core", "ignite": "pytorch-ignite", "sklearn": "scikit-learn"}
"""Packages whose distribution is not installed here, or is not found by Python 3.10."""


def project() -> dict[str, Any]:
    """The table ``project`` of pyproject.toml: the metadata of an editable install may be of yesterday."""
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text("utf-8")
    found: dict[str, Any] = toml.loads(text)["project"]
    return found


def normal(name: str) -> str:
    """A distribution's name, as PyPI compares names."""
    return re.sub(r"[-_.]+", "-", re.split(r"[^\w.-]", name)[0]).lower()


@functools.cache
def imported() -> dict[str, set[str]]:
    """The distributions that the source imports when it runs, each with the files that do."""
    distributions = metadata.packages_distributions()
    found: dict[str, set[str]] = {}
    for path in SOURCE.rglob("*.py"):
        for name in _imports(ast.parse(path.read_text("utf-8"))):
            top = name.partition(".")[0]
            if top not in sys.stdlib_module_names and top != "trackside":
                # mlflow-skinny and mlflow-tracing have files in the package mlflow, too
                names = {normal(one) for one in distributions.get(top, [UNNAMED.get(top, top)])}
                one = normal(top) if normal(top) in names else min(names)
                found.setdefault(one, set()).add(str(path.relative_to(SOURCE)))
    return found


def _imports(node: ast.AST) -> list[str]:
    """The modules imported below ``node``, but for those that only type checkers import."""
    if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
        return [name for part in node.orelse for name in _imports(part)]
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    inner = (ast.stmt, ast.excepthandler, ast.match_case)  # no expression imports anything
    return [
        name for child in ast.iter_child_nodes(node) if isinstance(child, inner) for name in _imports(child)
    ]


def test_every_import_is_declared() -> None:
    """A dependency of a dependency may go at any time. What an extra brings is imported on first use."""
    declared = project()
    known = {normal(name) for name in declared["dependencies"]}
    for extra, names in declared["optional-dependencies"].items():
        if extra not in FOR_DEVELOPERS:
            known |= {normal(name) for name in names}
    found = imported()
    assert len(found) > 10
    assert {name: files for name, files in found.items() if name not in known} == {}


def test_every_dependency_is_imported() -> None:
    """What is not used is not asked for."""
    assert {normal(name) for name in project()["dependencies"]} <= imported().keys()
