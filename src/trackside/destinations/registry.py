"""The kinds of destinations there are, checked without importing what they need.

A kind is named by a short name of ours, by an entry point in the group ``trackside.destinations``, or
by the class itself as ``package.module:Class``. A dotted name counts only where the running program or a
person gave it, never where a file did. The class is called in the shipper as
``Class(context, **options)``. If it has a static method ``check_options(**options)``, that is called in
the training process first: it raises :class:`ConfigurationError` for values that can't work, and must be
quick. Our own modules import the libraries they need only in ``open()``. Other people's modules are
imported in the shipper only, so that they too cost the training nothing.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

from trackside.errors import ConfigurationError
from trackside.plugins import PluginGroup
from trackside.protocols import Destination

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from trackside.destinations.context import DestinationContext
    from trackside.plugins import Plugin

ENTRY_POINT_GROUP = "trackside.destinations"
"""Where other distributions name their destinations."""

KINDS: dict[str, str] = {
    "jsonl": "trackside.destinations.jsonl:JSONLinesDestination",
    "mlflow": "trackside.destinations.mlflow.mirror:MLflowMirror",
    "parquet": "trackside.destinations.parquet.destination:ParquetDestination",
    "tensorboard": "trackside.destinations.tensorboard.destination:TensorBoardDestination",
    "wandb": "trackside.destinations.wandb.destination:WandbDestination",
}
"""Our own, by their short names."""

EXTRAS: dict[str, tuple[str, str]] = {
    "parquet": ("pyarrow", "parquet"),
    "tensorboard": ("tensorboard", "tensorboard"),
    "wandb": ("wandb", "wandb"),
}
"""The package that a kind imports when it is opened, and the extra that brings it."""

_DESTINATIONS = PluginGroup("destination", ENTRY_POINT_GROUP, KINDS)


def check(kind: str, options: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigurationError` for what can be known to fail before the shipper starts.

    Quick, and without importing anything heavy: an unknown kind, a package that isn't installed and,
    for our own kinds, unknown options or options whose values can't work.
    """
    found = _DESTINATIONS.find(kind)
    _check_installed(found)
    if found.built_in:
        _check_options(found, _load(found), options)


def make(
    kind: str,
    context: DestinationContext,
    options: Mapping[str, Any],
    *,
    importable: Collection[str] = (),
) -> Destination:
    """Create the destination, not yet open, in the shipper. Raises :class:`ConfigurationError`.

    ``kind`` was read from a file. So a class by its dotted name is imported only if the name is among
    ``importable``, which the running program or a person gave.
    """
    found = _DESTINATIONS.find(kind)
    if found.dotted and kind not in importable:
        raise ConfigurationError(
            f"the destination {kind!r} is code that only the journal names, so it was not imported. If you "
            f"know it, run `trackside sync --allow-import {kind}`, or make it an entry point in the group "
            f"{ENTRY_POINT_GROUP}"
        )
    _check_installed(found)
    factory = _load(found)
    _check_options(found, factory, options)
    destination = factory(context, **options)
    if not isinstance(destination, Destination):
        raise ConfigurationError(
            f"the destination {kind!r} is a {type(destination).__name__}: derive its class from "
            "trackside.protocols.Destination"
        )
    return destination


def is_dotted(name: str) -> bool:
    """Whether ``name`` is that of a class by its path, and of no entry point or kind of ours."""
    return _DESTINATIONS.find(name).dotted


def _check_installed(kind: Plugin) -> None:
    """Raise :class:`ConfigurationError` when what ``kind`` needs is not installed."""
    package, _, _ = kind.target.partition(":")[0].partition(".")
    needed = {package: f"install {package}"}
    if kind.built_in and kind.name in EXTRAS:
        module, extra = EXTRAS[kind.name]
        needed[module] = f"pip install 'trackside[{extra}]'"
    for module, cure in needed.items():
        if not _is_there(module):
            raise ConfigurationError(
                f"the destination {kind.name!r} needs the package {module}, which is not installed: {cure}"
            )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # ValueError: a module put into sys.modules by hand, without a spec
        return False


def _load(kind: Plugin) -> Any:
    found = _DESTINATIONS.load(kind)
    if not callable(found):
        raise ConfigurationError(f"the destination {kind.name!r}: {kind.target} is not a class")
    return found


def _check_options(kind: Plugin, factory: Any, options: Mapping[str, Any]) -> None:
    for parameter in _DESTINATIONS.check_options(kind, factory, options, given=1):  # the context is given
        if parameter.default is parameter.empty and parameter.name not in options:
            raise ConfigurationError(f"the destination {kind.name!r} needs the option {parameter.name!r}")
    checker = getattr(factory, "check_options", None)
    if checker is not None:
        checker(**options)
