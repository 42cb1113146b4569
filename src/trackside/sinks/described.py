"""What an artifact event is, in words for people: its kind, and where it is kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from trackside.sinks.odd_values import brief

if TYPE_CHECKING:
    from trackside.events import ArtifactEvent


def kind_of(event: ArtifactEvent) -> str:
    """``image``, ``table``, ``checkpoint``: the name of its class without ``Event``, in small letters."""
    return type(event).__name__.removesuffix("Event").lower()


_NOUNS = {"audio": "sound"}
"""Kinds that no sentence can be made of."""


def noun_of(event: ArtifactEvent) -> str:
    """What people call it: ``image``, ``sound``."""
    kind = kind_of(event)
    return _NOUNS.get(kind, kind)


def subject_of(event: ArtifactEvent, reason: str = "") -> str:
    """``the image 'val/samples'``: the beginning of a sentence.

    ``a file`` if it has no name in the run, or if ``reason``, the rest of the sentence, names it.
    """
    noun, name = noun_of(event), _given_name(event)
    if name is None:
        name = _name_of_path(event)
    if isinstance(name, str) and name and f"{os.path.basename(name)}'" not in reason:
        return f"the {noun} {brief(name)}"
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def place_of(event: ArtifactEvent) -> str:
    """Its key or file in the run, or the name of what was logged. Empty for a dataset without a name."""
    place = _given_name(event)
    return _name_of_path(event) if place is None else str(place)


def _given_name(event: ArtifactEvent) -> Any:
    for field in ("key", "artifact_file", "name"):
        place = getattr(event, field, None)
        if place is not None:
            return place
    return None


def _name_of_path(event: ArtifactEvent) -> str:
    path, folder = getattr(event, "path", None), getattr(event, "artifact_path", None)
    if not isinstance(path, str | os.PathLike):
        return ""
    name = os.path.basename(os.path.normpath(os.fsdecode(path)))
    return name if folder is None else f"{folder}/{name}"
