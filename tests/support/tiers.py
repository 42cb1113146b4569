"""Which tests are unit tests, and the guard that keeps them so.

A unit test starts no process, opens no connection and does not import MLflow. Which tests those are is read
from the code. A test is not one if its function, or a helper or fixture that it names, mentions something in
:data:`OUTSIDE`, or if its file cannot be imported without MLflow or torch. Mark a test ``outside`` where the
code does not show it. The guard fails every unit test that crosses the line.
"""

from __future__ import annotations

import ast
import functools
import re
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAVY = frozenset({"mlflow", "torch", "sklearn", "pandas", "wandb"})
"""Modules that cost a second to import."""

OUTSIDE = HEAVY | {"fork", "multiprocessing", "subprocess", "spawn", "urlopen", "connect", "connect_ex"}
"""Names of what leads out of the process, or is heavy."""

_ROOT = Path(__file__).parents[2]
_STARTS = frozenset({"subprocess.Popen", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"})

_watching = False
_known_threads: frozenset[int] = frozenset()
_crossed: list[str] = []


class NoUnitTestError(Exception):
    """A unit test did what no unit test does."""


@functools.cache
def _body(path: Path) -> list[ast.stmt]:
    return ast.parse(path.read_text("utf-8")).body


@functools.cache
def imports_of(path: Path) -> tuple[str, ...]:
    """The modules that ``path`` imports as it is loaded, and the names it takes from them."""
    return tuple(name for node in _body(path) for name in _imported(node))


@functools.cache
def is_light(path: Path) -> bool:
    """Whether ``path``, and our helpers that it imports, can be imported without a heavy module."""
    return not any(
        name.partition(".")[0] in HEAVY or not all(map(is_light, _files_of(name)))
        for name in imports_of(path)
    )


@functools.cache
def outside_names(path: Path) -> frozenset[str]:
    """The functions, classes and constants of ``path`` that lead outside, also of helpers it imports."""
    found = {
        name.rpartition(".")[2]
        for name in imports_of(path)
        for file in _files_of(name.rpartition(".")[0])
        if name.rpartition(".")[2] in outside_names(file)
    }
    if not found and OUTSIDE.isdisjoint(re.findall(r"\w+", path.read_text("utf-8"))):
        return frozenset()
    mentions = {name: _mentioned(node) for node in _body(path) for name in _defined(node)}
    while new := {name for name, used in mentions.items() if used & (found | OUTSIDE)} - found:
        found |= new
    return frozenset(found)


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
        return [node.name]
    return [target.id for target in getattr(node, "targets", ()) if isinstance(target, ast.Name)]


def _mentioned(node: ast.AST) -> set[str]:
    found: set[str] = set()
    left: list[Any] = [node]
    while left:  # ast.walk() takes twice as long
        part = left.pop()
        if isinstance(part, ast.Name):
            found.add(part.id)
            continue
        if isinstance(part, ast.Attribute):
            found.add(part.attr)
        elif isinstance(part, ast.arg):
            found.add(part.arg)  # a fixture
        elif isinstance(part, (ast.Import, ast.ImportFrom)):
            found.update(name.partition(".")[0] for name in _imported(part))
        for value in vars(part).values():
            if isinstance(value, list):
                left.extend(item for item in value if isinstance(item, ast.AST))
            elif isinstance(value, ast.AST):
                left.append(value)
    return found


def _files_of(name: str) -> list[Path]:
    """The file of one of our helpers. None for any other module, nor for a name in one."""
    if not name.startswith(("tests.", "benchmarks.")):
        return []
    return [path for path in [(_ROOT / name.replace(".", "/")).with_suffix(".py")] if path.exists()]


@contextmanager
def guard() -> Iterator[None]:
    """Raise :class:`NoUnitTestError` for whatever takes the code in here, or threads it starts, outside."""
    global _watching, _known_threads  # noqa: PLW0603 - an audit hook is for good, and there is one
    _install()
    known = {thread.ident for thread in threading.enumerate() if thread is not threading.current_thread()}
    _known_threads, _watching = frozenset(filter(None, known)), True
    _crossed.clear()
    try:
        yield
    finally:
        _watching = False
    if _crossed:  # the code under test may have caught the error
        raise NoUnitTestError(f"a unit test did this: {', '.join(_crossed)}. Mark it `outside`")


@functools.cache
def _install() -> None:
    sys.addaudithook(_audit)


def _audit(event: str, arguments: tuple[object, ...]) -> None:
    if not _watching or threading.get_ident() in _known_threads:
        return
    if event in _STARTS or _connects(event, arguments) or (event == "import" and arguments[0] == "mlflow"):
        what = "import mlflow" if event == "import" else event
        _crossed.append(what)
        raise NoUnitTestError(f"a unit test did this: {what}. Mark it `outside`")


def _connects(event: str, arguments: tuple[object, ...]) -> bool:
    return event == "socket.connect" and isinstance(arguments[1], tuple)  # a Unix socket's address is a text
