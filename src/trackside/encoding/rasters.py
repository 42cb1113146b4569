"""Pixels in memory: read from what is held, interleaved, made small, and written as a file.

Pillow does what needs an encoder, where it is installed. Without it there are PNG files alone, made with
zlib, and small ones are made by leaving pixels out.

Invariant: nothing here imports numpy. The shipper's memory stays that of Pillow and two copies of an image.
"""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.errors import RejectedError

if TYPE_CHECKING:
    from pathlib import Path

MODES = {1: "L", 3: "RGB", 4: "RGBA"}
"""Pillow's names of the channels."""

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".gif": "GIF",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
"""Endings of files that an image is written to, and Pillow's names of the formats."""

_OPAQUE_ONLY = {"JPEG", "BMP"}
_PNG = b"\x89PNG\r\n\x1a\n"
_PNG_COLOURS = {1: 0, 3: 2, 4: 6}
_LEVEL = 6


class Raster(NamedTuple):
    """Bytes, one a channel, pixel by pixel from the top left."""

    data: bytes
    width: int
    height: int
    channels: int


def suffix_of(name: str) -> str:
    """The ending of a file's name, in small letters, with its dot. Empty if it has none."""
    stem, dot, ending = name.rpartition("/")[2].rpartition(".")
    return f".{ending.lower()}" if dot and stem else ""


def raster_of(data: bytes, details: dict[str, Any]) -> Raster:
    """The pixels that ``details`` describe. Raises :class:`RejectedError` if they don't fit."""
    try:
        width, height, channels = (int(details[name]) for name in ("width", "height", "channels"))
        planar = bool(details.get("planar"))
    except (KeyError, TypeError, ValueError) as error:
        raise RejectedError(f"the size of an image is missing: {error!r}") from error
    if channels not in MODES or min(width, height) < 1 or len(data) != width * height * channels:
        raise RejectedError(
            f"{len(data)} bytes are not the pixels of an image of {width} by {height} by {channels}"
        )
    return Raster(_interleaved(data, channels) if planar else data, width, height, channels)


def _interleaved(planes: bytes, channels: int) -> bytes:
    size = len(planes) // channels
    mixed = bytearray(len(planes))
    for channel in range(channels):
        mixed[channel::channels] = planes[channel * size : (channel + 1) * size]
    return bytes(mixed)


def pillow() -> Any:
    """``PIL.Image``, or None where Pillow is not installed or broken."""
    try:
        from PIL import Image  # only where images are delivered
    except ImportError:
        return None
    return Image


def write_raster(raster: Raster, path: Path) -> None:
    """Write ``raster`` to ``path`` in the format its name ends in.

    Raises :class:`RejectedError` if nothing here can encode it, and ``OSError``.
    """
    kind = FORMATS.get(suffix_of(path.name))
    if kind is None:
        raise RejectedError(f"{path.name!r} names no kind of image that trackside writes")
    library = pillow()
    if library is not None:
        _write_by_pillow(library, raster, path, kind)
    elif kind == "PNG":
        path.write_bytes(png(raster))
    else:
        raise RejectedError(f"{kind} needs Pillow where the shipper runs. Install it, or log a .png")


def _write_by_pillow(library: Any, raster: Raster, path: Path, kind: str) -> None:
    image = library.frombytes(MODES[raster.channels], (raster.width, raster.height), raster.data)
    if kind in _OPAQUE_ONLY and image.mode == "RGBA":
        image = image.convert("RGB")
    try:
        image.save(path, kind)
    except (ValueError, KeyError) as error:
        raise RejectedError(f"Pillow can't write {kind}: {error}. Log a .png") from error


def png(raster: Raster) -> bytes:
    """``raster`` as a PNG file."""
    row = raster.width * raster.channels
    lines = b"".join(b"\0" + raster.data[at : at + row] for at in range(0, len(raster.data), row))
    header = struct.pack(">IIBBBBB", raster.width, raster.height, 8, _PNG_COLOURS[raster.channels], 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(lines, _LEVEL)), (b"IEND", b""))
    return _PNG + b"".join(_chunk(name, data) for name, data in chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def write_small(raster: Raster, folder: Path, longest: int) -> Path:
    """Write ``raster``, no side longer than ``longest`` pixels, as WebP, or as PNG where there is no WebP."""
    library = pillow()
    if library is not None:
        image = library.frombytes(MODES[raster.channels], (raster.width, raster.height), raster.data)
        image.thumbnail((longest, longest))
        path = folder / "small.webp"
        try:
            image.save(path, "WEBP")
        except (ValueError, KeyError, OSError):  # Pillow was built without it
            path = folder / "small.png"
            image.save(path, "PNG")
        return path
    path = folder / "small.png"
    path.write_bytes(png(_thinned(raster, longest)))
    return path


def _thinned(raster: Raster, longest: int) -> Raster:
    """Every n-th pixel of every n-th row."""
    every = -(-max(raster.width, raster.height) // longest)
    if every == 1:
        return raster
    channels, row = raster.channels, raster.width * raster.channels
    width, height = -(-raster.width // every), -(-raster.height // every)
    small = bytearray(width * height * channels)
    for index in range(height):
        line = raster.data[index * every * row : index * every * row + row]
        for channel in range(channels):
            start = index * width * channels + channel
            end = (index + 1) * width * channels
            small[start:end:channels] = line[channel :: every * channels]
    return Raster(bytes(small), width, height, channels)
