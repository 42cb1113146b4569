"""What kind of picture a file is, by its first bytes, and the ending that its name should have. Pure."""

from __future__ import annotations

import struct
from pathlib import PurePath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trackside.journal.format import ArtifactRecord

_SIGNATURES = {
    "png": b"\x89PNG\r\n\x1a\n",
    "jpeg": b"\xff\xd8\xff",
    "gif": b"GIF8",
    "bmp": b"BM",
}


def picture_type(data: bytes) -> str | None:
    """``png``, ``jpeg``, ``gif``, ``bmp`` or ``webp``. None for anything else."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "webp"
    return next((name for name, start in _SIGNATURES.items() if data.startswith(start)), None)


def picture_size(data: bytes) -> tuple[int, int]:
    """Width and height of a PNG or GIF file, and zeros for anything else."""
    kind = picture_type(data)
    if kind == "png" and len(data) >= 24:  # noqa: PLR2004 - behind the signature: length, IHDR, both
        width, height = struct.unpack_from(">II", data, 16)
        return width, height
    if kind == "gif" and len(data) >= 10:  # noqa: PLR2004
        width, height = struct.unpack_from("<HH", data, 6)
        return width, height
    return 0, 0


def ending_of(record: ArtifactRecord, path: PurePath) -> str:
    """The ending of the file at ``path``, in small letters with its dot.

    What is held has a name without one, so then it is what the record says, or that of the file that was
    logged, or of its place.
    """
    source = "" if record.held is None else record.held.source
    told = record.details.get("suffix")
    if not path.suffix and isinstance(told, str) and told:
        return told.lower()
    endings = (name.suffix.lower() for name in (path, PurePath(source), PurePath(record.place)))
    return next(filter(None, endings), "")
