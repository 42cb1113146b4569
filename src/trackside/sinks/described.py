"""What an artifact event is, in words for people: its kind, and where it is kept."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trackside.events import ArtifactEvent


def kind_of(event: ArtifactEvent) -> str:
    """``image``, ``table``, ``checkpoint``: the name of its class without ``Event``, in small letters."""
    return type(event).__name__.removesuffix("Event").lower()


def place_of(event: ArtifactEvent) -> str:
    """Its key or file in the run, or the name of what was logged. Empty for a dataset without a name."""
    for field in ("key", "artifact_file", "name"):
        place = getattr(event, field, None)
        if place is not None:
            return str(place)
    return _name_of_path(event)


def _name_of_path(event: ArtifactEvent) -> str:
    path, folder = getattr(event, "path", None), getattr(event, "artifact_path", None)
    if not isinstance(path, str | os.PathLike):
        return ""
    name = os.path.basename(os.path.normpath(os.fsdecode(path)))
    return name if folder is None else f"{folder}/{name}"
