"""Finds a sink by name and makes it: from a config file, where nobody can write ``MySink()``."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from trackside.errors import ConfigurationError
from trackside.event_bus.bus import handlers_of
from trackside.plugins.named import check_option_names, load_object, options_of
from trackside.plugins.suggest import unknown_name
from trackside.sinks.transformed import TransformedSink
from trackside.transform import Transform, make_transform

__all__ = ["ENTRY_POINT_GROUP", "known_sinks", "make_sink"]

ENTRY_POINT_GROUP = "trackside.sinks"
"""Where other distributions name their sinks: classes, or functions that return a sink."""

_BUILT_IN = {
    "console": "trackside.sinks.console:ConsoleSink",
    "memory": "trackside.sinks.memory:MemorySink",
    "prometheus": "trackside.sinks.prometheus:PrometheusSink",
}


def make_sink(spec: Any, rank: int | None = None) -> Any:
    """The sink that ``spec`` means.

    ``spec`` is a name or a mapping ``{"type": name, **options}``. The name is one of :func:`known_sinks` or
    dotted, ``my_package.module:MySink``. The options go to the class or function found. With ``"transform"``
    among them (see :class:`trackside.transform.Transform`) the sink is put behind that transform. Anything
    but a text or a mapping is taken to be a sink.

    The sink is for rank 0, or for the ``ranks`` of its transform. For any other ``rank`` everything is
    checked and nothing is made, because making a sink may take a port. The result is then None.

    Raises:
        ConfigurationError: no such sink, a package that is missing, options it does not take or can't work
            with, or what was found is no sink.
    """
    if isinstance(spec, str):
        spec = {"type": spec}
    if not isinstance(spec, Mapping):
        return _checked(spec, repr(spec))
    options = {str(key): value for key, value in spec.items()}
    name = options.pop("type", None)
    if not isinstance(name, str):
        raise ConfigurationError(f"a sink needs a type, such as {{'type': 'console'}}, not {dict(spec)!r}")
    transform = make_transform(options.pop("transform", None))
    found = _find(name)
    _check_options(name, found, options)
    if rank is not None and not (transform or Transform()).wants_rank(rank):
        return None
    sink = _checked(_make(name, found, options), name)
    return sink if transform is None else TransformedSink(sink, transform)


def known_sinks() -> list[str]:
    """The names that need no dots: those built in, and those that installed distributions bring."""
    return sorted({*_BUILT_IN, *_installed()})


def _installed() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in entry_points(group=ENTRY_POINT_GROUP)}


def _find(name: str) -> Any:
    """What ``name`` stands for: nearly always a class. Ours come first, so that nobody can replace them."""
    if name in _BUILT_IN:
        return _load(name, _BUILT_IN[name])
    installed = _installed()
    if name in installed:
        return _load(name, installed[name].value)
    if "." not in name and ":" not in name:
        raise ConfigurationError(
            unknown_name("sink", name, known_sinks()) + "; or give the class's dotted name, my_package.MySink"
        )
    return _load(name, name)


def _load(name: str, path: str) -> Any:
    return load_object(path, f"sink {name!r}")


def _check_options(name: str, found: Any, options: Mapping[str, Any]) -> None:
    """Refuse options of names that ``found`` does not take, with the nearest that it does."""
    if not callable(found):
        if options:
            raise ConfigurationError(f"sink {name!r} is an object already made: it takes no options")
        return
    taken = options_of(found)
    if not taken.any_name:
        check_option_names(f"the sink {name!r}", options, [*(p.name for p in taken.named), "transform"])


def _make(name: str, found: Any, options: dict[str, Any]) -> Any:
    """Call what was found with the options; an object that is a sink already is taken as it is."""
    if not callable(found):
        return found
    try:
        return found(**options)
    except ConfigurationError:
        raise
    except Exception as error:
        raise ConfigurationError(
            f"sink {name!r} can't be made with the options {sorted(options)}: {type(error).__name__}: {error}"
        ) from error


def _checked(sink: Any, name: str) -> Any:
    try:
        handlers_of(sink)
    except TypeError as error:
        raise ConfigurationError(f"{name}: {error}") from error
    return sink
