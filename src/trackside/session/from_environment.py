"""Sinks and destinations that the environment names: ``TRACKSIDE_SINKS`` and ``TRACKSIDE_DESTINATIONS``.

The value is a JSON list of what ``sinks=`` and ``destinations=`` take, or a list with commas::

    tensorboard,jsonl:path=metrics.jsonl,mode=truncate

An option belongs to the last kind before it. The entries are added to those of the program, because whoever
sets the variable often can't change the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from trackside.errors import ConfigurationError
from trackside.event_bus.bus import default_bus
from trackside.settings import DESTINATIONS_VARIABLE, SINKS_VARIABLE

if TYPE_CHECKING:
    from trackside.event_bus.bus import Bus
    from trackside.settings import Settings

Listed: TypeAlias = "str | dict[str, Any]"
"""A name, or a mapping with a type and options."""


def destinations_beside(settings: Settings) -> tuple[Listed, ...]:
    """The destinations that every run has beside those of its program."""
    return listed(settings.destinations, DESTINATIONS_VARIABLE)


def sinks_beside(settings: Settings, bus: Bus) -> tuple[Listed, ...]:
    """The sinks that a run on ``bus`` has beside those of its program.

    Only the default bus has such: of several runs at once, each would open the same port and the same line
    in the terminal.
    """
    return listed(settings.sinks, SINKS_VARIABLE) if bus is default_bus else ()


def listed(text: str | None, what: str) -> tuple[Listed, ...]:
    """The entries in ``text``, the value of the variable or option ``what``. Empty for None.

    Raises :class:`ConfigurationError` for a text that has neither form.
    """
    if not text or not text.strip():
        return ()
    return _from_json(text, what) if text.lstrip()[0] in '[{"' else _from_words(text, what)


def as_text(entries: tuple[Listed, ...]) -> str:
    """``entries`` as the value of a variable."""
    import json

    return json.dumps(entries, separators=(",", ":"))


def _from_json(text: str, what: str) -> tuple[Listed, ...]:
    import json  # start() rarely needs it

    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigurationError(f"{what}={text!r} is not JSON ({error}). {_FORMS}") from error
    entries = found if isinstance(found, list) else [found]
    for one in entries:
        if not isinstance(one, str) and not (isinstance(one, Mapping) and isinstance(one.get("type"), str)):
            raise ConfigurationError(
                f"{what} has {one!r}, which is neither a name nor a mapping with a type. {_FORMS}"
            )
    return tuple(entries)


def _from_words(text: str, what: str) -> tuple[Listed, ...]:
    entries: list[dict[str, Any]] = []
    for word in filter(None, map(str.strip, text.split(","))):
        head, equals, value = word.partition("=")
        kind, colon, option = head.rpartition(":") if equals else (word, "", "")
        if equals and not colon:
            kind, option = "", head
        if kind:
            entries.append({"type": kind})
        elif not entries:
            raise ConfigurationError(f"{what}={text!r} begins with an option. {_FORMS}")
        if equals:
            if not option.strip().isidentifier():
                raise ConfigurationError(f"{what}: {option!r} is not the name of an option. {_FORMS}")
            entries[-1][option.strip()] = _value(value.strip())
    return tuple(one if len(one) > 1 else one["type"] for one in entries)


def _value(text: str) -> Any:
    """A number, true, false or null, and otherwise the text itself."""
    import json

    try:
        found = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(found, str) else found


_FORMS = "Write names and options, such as tensorboard,jsonl:path=metrics.jsonl, or a JSON list"
