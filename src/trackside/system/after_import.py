"""Do something once a module has been imported, without importing it.

Python has no event for an import, so a finder stands before the others on ``sys.meta_path``.

Invariants:

* The other finders find the module. Its spec and its loader are theirs by the time its code runs.
* An error in what we do is none of the import.
* The finder stays on ``sys.meta_path``, where it does nothing more. Another thread may be walking through
  that list, and would leave out a finder if one before it was removed.
* ``importlib.util.find_spec``, with which programs ask whether a module can be had, is no import.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


def after_import(name: str, function: Callable[[], None]) -> None:
    """Call ``function()`` in the thread that imports the module ``name``, as soon as it is imported.

    At once, if it has been imported before.
    """
    if name in sys.modules:
        function()
    else:
        sys.meta_path.insert(0, _Finder(name, function))


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, name: str, function: Callable[[], None]) -> None:
        self._name: str | None = name
        self._function = function

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != self._name:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader, self._imported)
                return spec
        return None

    def _imported(self) -> None:
        self._name = None  # a second import, of a module that was deleted, is no business of ours
        with contextlib.suppress(Exception):
            self._function()


class _Loader(importlib.abc.Loader):
    def __init__(self, loader: importlib.abc.Loader, imported: Callable[[], None]) -> None:
        self._loader = loader
        self._imported = imported

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._imported()
