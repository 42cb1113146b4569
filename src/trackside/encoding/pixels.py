"""Images as files: what is held is their pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.encoding.histograms import HISTOGRAM, drawn
from trackside.encoding.rasters import Raster, raster_of, suffix_of, write_raster
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.format import ArtifactRecord

PIXELS = "pixels"
"""The form: one byte a channel and pixel. ``details`` has ``height``, ``width``, ``channels``, ``planar``."""


def picture_of(record: ArtifactRecord, content: Path | None) -> Raster:
    """The picture of ``record``. Raises :class:`RejectedError` if it has none, and ``OSError``."""
    if record.form == HISTOGRAM:
        return drawn(record.details)
    if record.form != PIXELS or content is None:
        raise RejectedError(f"{record.place!r} is no picture: its form is {record.form!r}")
    return raster_of(content.read_bytes(), record.details)


def image_file(record: ArtifactRecord, content: Path | None, folder: Path) -> Path:
    """Write the picture of ``record`` into ``folder``: as PNG, or in the format its own name ends in."""
    path = folder / f"picture{'.png' if record.step is not None else suffix_of(record.place)}"
    write_raster(picture_of(record, content), path)
    return path
