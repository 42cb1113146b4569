"""Classes and functions that a config names: found by their path, and asked which options they take."""

from __future__ import annotations

import importlib
import inspect
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.errors import ConfigurationError
from trackside.plugins.suggest import unknown_name

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["check_option_names", "load_object", "options_of"]


def load_object(path: str, what: str) -> Any:
    """The object at ``module:attribute`` or ``module.attribute``.

    Raises :class:`ConfigurationError`, which says that ``what`` can't be loaded, and why.
    """
    module, colon, attributes = path.partition(":")
    if not colon:
        module, _, attributes = path.rpartition(".")
    try:
        found: Any = importlib.import_module(module)
        for attribute in attributes.split("."):
            found = getattr(found, attribute)
    except Exception as error:  # other people's modules may raise anything when they are imported
        msg = f"{what} can't be loaded from {path!r}: {type(error).__name__}: {error}"
        raise ConfigurationError(msg) from error
    return found


class Options(NamedTuple):
    """The options of a class or function."""

    named: list[inspect.Parameter]
    any_name: bool
    """Whether it takes others, too, or nobody can tell."""


def options_of(factory: Callable[..., Any], *, given: int = 0) -> Options:
    """What ``factory`` takes by name, behind the first so many arguments, which are ``given``."""
    try:
        parameters = list(inspect.signature(factory).parameters.values())[given:]
    except (TypeError, ValueError):  # written in C: it will say so itself
        return Options([], any_name=True)
    named = [p for p in parameters if p.kind in {p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY}]
    return Options(named, any(p.kind is p.VAR_KEYWORD for p in parameters))


def check_option_names(what: str, options: Iterable[str], known: Iterable[str]) -> None:
    """Raise :class:`ConfigurationError` for the first option of ``what`` there is none of."""
    names = list(known)
    for option in options:
        if option not in names:
            raise ConfigurationError(unknown_name(f"option of {what}:", option, names))
