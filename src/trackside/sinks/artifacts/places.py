"""Where a picture or a sound goes: under a key at a step, or to a file of its own name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.artifact_names import artifact_file
from trackside.errors import ArtifactError
from trackside.redaction.redact import redact
from trackside.text import encodable

if TYPE_CHECKING:
    from trackside.artifact_events import FigureEvent, ImageEvent
    from trackside.sinks.artifacts.keeping import Keeping

MAX_KEY = 250
"""Characters, as of a metric's name."""


class Place(NamedTuple):
    """``name`` is a key if there is a ``step``, else the path of a file."""

    name: str
    step: int | None


def place_of(event: ImageEvent | FigureEvent, keeping: Keeping) -> Place:
    """Where ``event`` goes. Raises :class:`ArtifactError` unless it says one of the two."""
    if event.artifact_file is None:
        if event.key is None:
            raise ArtifactError("it has no name. Pass key= and step=, or artifact_file=")
        return key_at(event.key, event.step, keeping)
    if event.key is not None or event.step is not None:
        raise ArtifactError("pass artifact_file alone, or key and step without it: these are two places")
    return Place(artifact_file(event.artifact_file), None)


def key_at(key: Any, step: Any, keeping: Keeping) -> Place:
    """``key`` at ``step``. Raises :class:`ArtifactError` for what is no key."""
    if key is None:
        raise ArtifactError("it has no name. Pass key= and step=")
    if not isinstance(key, str) or not key.strip("/ "):
        raise ArtifactError(f"a key is a text such as 'val/samples', not {key!r:.60}")
    if len(key) > MAX_KEY:
        raise ArtifactError(f"a key has at most {MAX_KEY} characters, and {key[:30]!r}... has {len(key)}")
    return Place(redact(encodable(str.__str__(key))), keeping.step(step))
