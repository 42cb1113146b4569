"""Make the sink that a configuration names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trackside.errors import ConfigurationError
from trackside.event_bus.bus import handlers_of
from trackside.plugins import PluginGroup
from trackside.sinks.transformed import TransformedSink
from trackside.transform import Transform, make_transform

ENTRY_POINT_GROUP = "trackside.sinks"
"""Where other distributions name their sinks: classes, or functions that return a sink."""

_SINKS = PluginGroup(
    "sink",
    ENTRY_POINT_GROUP,
    {
        "console": "trackside.sinks.console:ConsoleSink",
        "memory": "trackside.sinks.memory:MemorySink",
        "prometheus": "trackside.sinks.prometheus:PrometheusSink",
    },
)


def make_sink(spec: Any, rank: int | None = None) -> Any:
    """Make the sink that ``spec`` describes.

    ``spec`` is a name or a mapping ``{"type": name, **options}``. The name is one of :func:`known_sinks` or
    dotted, ``my_package.module:MySink``. The options go to the class or function found. With ``"transform"``
    among them (see :class:`trackside.transform.Transform`) the sink is put behind that transform. Anything
    but a text or a mapping is taken to be a sink.

    The sink is for rank 0, or for the ``ranks`` of its transform. For any other ``rank`` everything is
    checked and nothing is made, because making a sink may take a port. The result is then None.

    Raises:
        ConfigurationError: an unknown sink, a missing package, options that it does not accept, or an object
            that is not a sink.
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
    plugin = _SINKS.find(name)
    found = _SINKS.load(plugin)
    if callable(found):
        _SINKS.check_options(plugin, found, options, also=["transform"])
    elif options:
        raise ConfigurationError(f"sink {name!r} is an object already made. It takes no options")
    if rank is not None and not (transform or Transform()).wants_rank(rank):
        return None
    sink = _checked(_make(name, found, options), name)
    return sink if transform is None else TransformedSink(sink, transform)


def known_sinks() -> list[str]:
    """Return the names that need no path: the built-in ones, and those of installed distributions."""
    return _SINKS.names()


def is_dotted(name: str) -> bool:
    """Whether ``name`` is that of a class by its path. Raises :class:`ConfigurationError` if unknown."""
    return _SINKS.find(name).dotted


def _make(name: str, found: Any, options: dict[str, Any]) -> Any:
    """Call what was found with the options. An object that already is a sink is returned."""
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
