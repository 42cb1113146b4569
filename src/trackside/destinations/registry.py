"""The kinds of destinations there are, checked without importing what they need.

A kind is named by a short name of ours, by an entry point in the group ``trackside.destinations``, or
by the class itself as ``package.module:Class``. A dotted name counts only where the running program or a
person gave it, never where a file did. The class is called in the shipper as
``Class(context, **options)``. If it has a static method ``check_options(**options)``, that is called in
the training process first: it raises :class:`ConfigurationError` for values that can't work, and must be
quick. Our own modules import the libraries they need only in ``open()``; other people's modules are
imported in the shipper only, so that they too cost the training nothing.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.errors import ConfigurationError
from trackside.plugins.named import check_option_names, load_object, options_of
from trackside.plugins.suggest import unknown_name
from trackside.protocols import Destination

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from trackside.destinations.context import DestinationContext

GROUP = "trackside.destinations"
"""The group of entry points that other packages name their destinations in."""


class Kind(NamedTuple):
    """Where a kind's class is, and what has to be installed for it."""

    name: str
    target: str
    """``module:Class``."""
    modules: tuple[str, ...] = ()
    """Imported by the destination when it is opened."""
    extra: str | None = None
    """What to install: ``pip install 'trackside[extra]'``."""
    ours: bool = False
    dotted: bool = False
    """Whether the name says itself where the class is."""


_OURS = (
    Kind("jsonl", "trackside.destinations.jsonl:JSONLinesDestination"),
    Kind("parquet", "trackside.destinations.parquet.destination:ParquetDestination", ("pyarrow",), "parquet"),
    Kind(
        "tensorboard",
        "trackside.destinations.tensorboard.destination:TensorBoardDestination",
        ("tensorboard",),
        "tensorboard",
    ),
    Kind("wandb", "trackside.destinations.wandb.destination:WandbDestination", ("wandb",), "wandb"),
    Kind("mlflow", "trackside.destinations.mlflow.mirror:MLflowMirror"),
)

KINDS: dict[str, Kind] = {kind.name: kind._replace(ours=True) for kind in _OURS}
"""Our own, by their short names."""


def find_kind(name: str) -> Kind:
    """The kind of that name; raises :class:`ConfigurationError`, naming the known ones and the nearest."""
    if not isinstance(name, str):
        raise ConfigurationError(f"a destination's type is a text, not {name!r}")
    kind = KINDS.get(name) or _by_entry_point(name) or _by_dotted_name(name)
    if kind is None:
        known = {*KINDS, *_entry_points()}
        own = "or a class of your own as package.module:Class"
        raise ConfigurationError(f"{unknown_name('destination', name, known)}; {own}")
    return kind


def check(kind: str, options: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigurationError` for what can be known to fail before the shipper starts.

    Quick, and without importing anything heavy: an unknown kind, a package that isn't installed and,
    for our own kinds, options there are none of or whose values can't work.
    """
    found = find_kind(kind)
    check_installed(found)
    if found.ours:
        _check_options(found, _load(found), options)


def make(
    kind: str,
    context: DestinationContext,
    options: Mapping[str, Any],
    *,
    importable: Collection[str] = (),
) -> Destination:
    """The destination, not yet open; in the shipper. Raises :class:`ConfigurationError`.

    ``kind`` was read from a file. So a class by its dotted name is imported only if the name is among
    ``importable``, which the running program or a person gave.
    """
    found = find_kind(kind)
    if found.dotted and kind not in importable:
        raise ConfigurationError(
            f"the destination {kind!r} is code that only the journal names, so it was not imported. If you "
            f"know it, run `trackside sync --allow-import {kind}`, or make it an entry point in the group "
            f"{GROUP}"
        )
    check_installed(found)
    factory = _load(found)
    _check_options(found, factory, options)
    destination = factory(context, **options)
    if not isinstance(destination, Destination):
        raise ConfigurationError(
            f"the destination {kind!r} is a {type(destination).__name__}: derive its class from "
            "trackside.protocols.Destination"
        )
    return destination


def check_installed(kind: Kind) -> None:
    """Raise :class:`ConfigurationError` when what ``kind`` needs is not installed."""
    for module in (*kind.modules, kind.target.partition(":")[0].partition(".")[0]):
        if not _is_there(module):
            cure = f"pip install 'trackside[{kind.extra}]'" if kind.extra else f"install {module}"
            raise ConfigurationError(
                f"the destination {kind.name!r} needs the package {module}, which is not installed: {cure}"
            )


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # ValueError: a module put into sys.modules by hand, without a spec
        return False


def _entry_points() -> dict[str, str]:
    from importlib import metadata  # start() imports this module, and mostly needs none of it

    return {point.name: point.value for point in metadata.entry_points(group=GROUP)}


def _by_entry_point(name: str) -> Kind | None:
    value = _entry_points().get(name)
    return None if value is None else Kind(name, value.partition("[")[0].strip())


def _by_dotted_name(name: str) -> Kind | None:
    """``package.module:Class``, or with a dot as YAML files often have it."""
    module, colon, attribute = name.partition(":")
    if not colon:
        module, _, attribute = name.rpartition(".")
    parts = [*module.split("."), *attribute.split(".")]
    if not all(part.isidentifier() for part in parts):
        return None
    return Kind(name, f"{module}:{attribute}", dotted=True)


def is_dotted(name: str) -> bool:
    """Whether ``name`` is that of a class by its path, and of no entry point or kind of ours."""
    return find_kind(name).dotted


def _load(kind: Kind) -> Any:
    found = load_object(kind.target, f"the destination {kind.name!r}")
    if not callable(found):
        raise ConfigurationError(f"the destination {kind.name!r}: {kind.target} is not a class")
    return found


def _check_options(kind: Kind, factory: Any, options: Mapping[str, Any]) -> None:
    taken = options_of(factory, given=1)  # the context
    if not taken.any_name:
        check_option_names(f"destination {kind.name!r}", options, [p.name for p in taken.named])
    for parameter in taken.named:
        if parameter.default is parameter.empty and parameter.name not in options:
            raise ConfigurationError(f"the destination {kind.name!r} needs the option {parameter.name!r}")
    checker = getattr(factory, "check_options", None)
    if checker is not None:
        checker(**options)
