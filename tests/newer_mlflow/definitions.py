"""Definitions in a package's sources, and what each of them reaches. Nothing is imported.

A definition is named ``module:name`` or ``module:class.method``. Imports are followed to where the definition
really stands, and inherited methods to the class that has them. What a function reaches are the functions,
methods of its own class, classes and constants of the package that it mentions, and what those functions
reach. Calls on other objects are not seen.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

Definition: TypeAlias = "ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign"

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


@dataclass(frozen=True)
class Place:
    """Where a definition stands: its module, the class around it if there is one, and the definition."""

    module: str
    owner: str
    node: Definition

    @property
    def name(self) -> str:
        """As ``module:name`` or ``module:class.method``."""
        return f"{self.module}:{'.'.join(filter(None, (self.owner, _name_of(self.node))))}"


@dataclass
class _Module:
    definitions: dict[str, Definition] = field(default_factory=dict)
    imports: dict[str, tuple[str, str]] = field(default_factory=dict)


class Sources:
    """The sources of the packages in the folder ``root``."""

    def __init__(self, root: Path, package: str = "mlflow") -> None:
        self._root = root
        self._package = package
        self._modules: dict[str, _Module | None] = {}

    def find(self, name: str) -> Place | None:
        """Where ``name`` stands. None if it does not exist."""
        module, _, path = name.partition(":")
        first, _, method = path.partition(".")
        place = self._find_top(module, first)
        if place is None or not method:
            return place
        return self._find_method(place, method)

    def reach(self, name: str) -> dict[str, str]:
        """The code of ``name`` and of everything it reaches, by name. Empty if it does not exist."""
        start = self.find(name)
        waiting = [] if start is None else [start]
        found: dict[str, str] = {}
        while waiting:
            place = waiting.pop()
            if place.name not in found:
                found[place.name] = code_of(place.node)
                if isinstance(place.node, _FUNCTIONS):
                    waiting.extend(self._mentioned(place))
        return found

    def abstract_methods(self, name: str) -> set[str]:
        """What a subclass of the class ``name`` must define."""
        place = self.find(name)
        if place is None or not isinstance(place.node, ast.ClassDef):
            return set()
        return {
            node.name
            for node in place.node.body
            if isinstance(node, _FUNCTIONS) and any("abstract" in ast.unparse(d) for d in node.decorator_list)
        }

    def _find_top(self, module: str, name: str) -> Place | None:
        for _ in range(10):  # an import of an import
            found = self._module(module)
            if found is None:
                return None
            if name in found.definitions:
                return Place(module, "", found.definitions[name])
            if name not in found.imports:
                return None
            module, name = found.imports[name]
        return None

    def _find_method(self, place: Place, method: str) -> Place | None:
        if not isinstance(place.node, ast.ClassDef):
            return None
        for node in place.node.body:
            if method in _names_of(node):
                return Place(place.module, place.node.name, node)  # type: ignore[arg-type]
        for base in place.node.bases:
            parent = self._find_top(place.module, ast.unparse(base))
            inherited = self._find_method(parent, method) if parent else None
            if inherited is not None:
                return inherited
        return None

    def _mentioned(self, place: Place) -> Iterator[Place]:
        owner = self._find_top(place.module, place.owner) if place.owner else None
        bare = ast.parse(code_of(place.node))
        local = dict(_imports(ast.walk(bare), place.module, self._package))
        for node in ast.walk(bare):
            found = None
            if isinstance(node, ast.Name):
                found = self._find_top(*local.get(node.id, (place.module, node.id)))
            elif isinstance(node, ast.Attribute) and owner is not None and _is_own(node.value):
                found = self._find_method(owner, node.attr)
            if found is not None:
                yield found

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            self._modules[name] = self._read(name)
        return self._modules[name]

    def _read(self, name: str) -> _Module | None:
        base = self._root.joinpath(*name.split("."))
        path = next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)
        if path is None:
            return None
        body = ast.parse(path.read_text("utf-8")).body
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        module = _Module()
        for node in _top_level(body):
            for defined in _names_of(node):
                module.definitions[defined] = node  # type: ignore[assignment]
            module.imports.update(_imports([node], package, self._package))
        return module


@cache
def code_of(node: Definition) -> str:
    """The code of ``node``, without what cannot change what it does: comments, docstrings, annotations."""
    return ast.unparse(ast.fix_missing_locations(_Bare().visit(ast.parse(ast.unparse(node)))))


class _Bare(ast.NodeTransformer):
    """Leaves out docstrings and the annotations of functions."""

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        if isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            return None
        return self.generic_visit(node)

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.returns = None
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        self.generic_visit(node)
        node.body = node.body or [ast.Pass()]
        return node


def _top_level(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run when the module is imported, also those inside ``if`` and ``try``."""
    for node in body:
        yield node
        for part in ("body", "orelse", "handlers", "finalbody"):
            if isinstance(node, (ast.If, ast.Try)):
                for inner in getattr(node, part, []):
                    yield from _top_level(inner.body if isinstance(inner, ast.ExceptHandler) else [inner])


def _names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, (*_FUNCTIONS, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _name_of(node: Definition) -> str:
    return _names_of(node)[0]


def _is_own(value: ast.expr) -> bool:
    if isinstance(value, ast.Call):
        return isinstance(value.func, ast.Name) and value.func.id == "super"
    return isinstance(value, ast.Name) and value.id in {"self", "cls"}


def _imports(nodes: Iterable[ast.AST], package: str, wanted: str) -> Iterator[tuple[str, tuple[str, str]]]:
    for node in nodes:
        if isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            module = ".".join([*parents, *filter(None, [node.module])])
            if module.partition(".")[0] == wanted:
                for alias in node.names:
                    yield alias.asname or alias.name, (module, alias.name)
