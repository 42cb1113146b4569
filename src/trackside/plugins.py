"""What a user names in a text: a sink or destination, its options, a key out of a few.

A plugin is named by a short name of ours, by an entry point of an installed distribution, or by its own path
as ``package.module:Class``. A mistyped name is an error that shows the nearest one.
"""

from __future__ import annotations

import difflib
import inspect
import pkgutil
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


def unknown_name(what: str, name: object, known: Iterable[str]) -> str:
    """A message that ``name`` is no ``what``, with the nearest of the ``known`` names, and all of them.

    >>> unknown_name("key of transform", "inclde", ["include", "exclude"])
    "unknown key of transform 'inclde'; did you mean 'include'? Known: exclude, include"
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(name), names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    return f"unknown {what} {name!r}{hint} Known: {', '.join(names)}"


def missing_extra(what: str, extra: str, error: ImportError) -> ConfigurationError:
    """The error to raise from ``error``: ``what`` needs a package that the ``extra`` brings."""
    return ConfigurationError(f"{what} needs a package ({error}): pip install 'trackside[{extra}]'")


class Plugin(NamedTuple):
    """A class, function or object that a user named. Nothing of it is imported yet."""

    name: str
    target: str
    """``module:attribute``."""
    built_in: bool = False
    dotted: bool = False
    """Whether the name itself is the path."""


class PluginGroup:
    """The sinks, or the destinations: those built in, those installed beside trackside, and yours by path.

    Those built in come first, so that no other distribution can replace them.
    """

    def __init__(self, what: str, entry_points: str, built_in: Mapping[str, str]) -> None:
        self._what = what
        self._entry_points = entry_points
        self._built_in = built_in

    def names(self) -> list[str]:
        """The names that need no path."""
        return sorted({*self._built_in, *self._installed()})

    def find(self, name: object) -> Plugin:
        """The plugin called ``name``. Raises :class:`ConfigurationError`, which shows the nearest name."""
        if not isinstance(name, str):
            raise ConfigurationError(f"the type of a {self._what} must be text, not {name!r}")
        target = self._built_in.get(name)
        if target is not None:
            return Plugin(name, target, built_in=True)
        target = self._installed().get(name)
        if target is not None:
            return Plugin(name, target)
        target = _path_in(name)
        if target is not None:
            return Plugin(name, target, dotted=True)
        message = unknown_name(self._what, name, self.names())
        raise ConfigurationError(f"{message}, or a class of your own as package.module:Class")

    def load(self, plugin: Plugin) -> Any:
        """Import the plugin. Raises :class:`ConfigurationError`, which says why that failed."""
        try:
            return pkgutil.resolve_name(plugin.target)
        except Exception as error:  # other people's modules may raise anything when they are imported
            raise ConfigurationError(
                f"{self._what} {plugin.name!r} can't be loaded from {plugin.target!r}: "
                f"{type(error).__name__}: {error}"
            ) from error

    def check_options(
        self,
        plugin: Plugin,
        factory: Callable[..., Any],
        options: Iterable[str],
        *,
        given: int = 0,
        also: Iterable[str] = (),
    ) -> list[inspect.Parameter]:
        """Check the names of ``options``, and return what ``factory`` takes by name.

        The first so many arguments are ``given``, and options in ``also`` are not for the factory. Raises
        :class:`ConfigurationError` for an option that it does not take, and shows the nearest.
        """
        try:
            parameters = list(inspect.signature(factory).parameters.values())[given:]
        except (TypeError, ValueError):  # written in C: it will say so itself
            return []
        named = [p for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            known = [*(p.name for p in named), *also]
            for option in options:
                if option not in known:
                    what = f"option of the {self._what} {plugin.name!r}:"
                    raise ConfigurationError(unknown_name(what, option, known))
        return named

    def _installed(self) -> dict[str, str]:
        from importlib import metadata  # start() imports this module, and rarely needs this

        points = metadata.entry_points(group=self._entry_points)
        return {point.name: point.value.partition("[")[0].strip() for point in points}


def _path_in(name: str) -> str | None:
    """``package.module:Class``, or with a dot as YAML files often have it, as ``module:attribute``."""
    module, colon, attribute = name.partition(":")
    if not colon:
        module, _, attribute = name.rpartition(".")
    parts = [*module.split("."), *attribute.split(".")]
    return f"{module}:{attribute}" if all(part.isidentifier() for part in parts) else None
