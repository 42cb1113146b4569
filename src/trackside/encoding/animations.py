"""Frames as a GIF, which every page shows. Pillow makes it, frame by frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.encoding.rasters import MODES, pillow, raster_of
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.journal.format import ArtifactRecord

FRAMES = "frames"
"""The form: pixels, one frame behind the other. ``details`` as for one image, ``frames`` and ``fps``."""


def animation_file(record: ArtifactRecord, content: Path, folder: Path) -> Path:
    """Write the animation into ``folder``. Raises :class:`RejectedError`, and ``OSError``."""
    library = pillow()
    if library is None:
        raise RejectedError("frames need Pillow where the shipper runs. Install it, or log a video's file")
    details = record.details
    try:
        pause = max(20, round(1000 / float(details["fps"])))  # browsers slow down what is faster
        count, size = int(details["frames"]), content.stat().st_size // int(details["frames"])
    except (KeyError, TypeError, ValueError, ZeroDivisionError, OverflowError) as error:
        raise RejectedError(f"the frames of {record.place!r} can't be read: {error!r}") from error
    path = folder / "video.gif"
    with content.open("rb") as file:
        frames = _frames(library, (file.read(size) for _ in range(count)), details)
        first = next(frames)
        first.save(path, "GIF", save_all=True, append_images=frames, duration=pause, loop=0)
    return path


def _frames(library: Any, pieces: Iterator[bytes], details: dict[str, Any]) -> Iterator[Any]:
    for piece in pieces:
        raster = raster_of(piece, details)
        image = library.frombytes(MODES[raster.channels], (raster.width, raster.height), raster.data)
        yield image.convert("RGB") if image.mode == "RGBA" else image
