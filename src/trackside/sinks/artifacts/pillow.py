"""Images of Pillow as pixels. Pillow itself is asked, and never imported."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from trackside.errors import ArtifactError
from trackside.sinks.artifacts.pixels import MAX_BYTES, Pixels

if TYPE_CHECKING:
    from trackside.sinks.artifacts.keeping import Keeping

_CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}
_WHITE = 255
_WIDE = ("I", "F")


def is_pillow(value: Any) -> bool:
    """Whether ``value`` is an image of Pillow."""
    image = getattr(sys.modules.get("PIL.Image"), "Image", None)
    return isinstance(image, type) and isinstance(value, image)


def pixels_of_pillow(image: Any, keeping: Keeping, subject: str) -> Pixels:
    """The pixels of ``image``, of any mode. Raises :class:`ArtifactError` if there are none."""
    width, height = image.size
    if width * height == 0:
        raise ArtifactError(f"the image is empty: {width} by {height} pixels")
    if width * height * 4 > MAX_BYTES:
        raise ArtifactError(
            f"the image has {width} by {height} pixels, more than {MAX_BYTES >> 20} MiB. Log a smaller one, "
            "or call log_artifact() with its file"
        )
    try:
        plain = _plain(image, keeping, subject)
        return Pixels(plain.tobytes(), height, width, _CHANNELS[plain.mode])
    except (ValueError, OSError) as error:
        raise ArtifactError(
            f"Pillow can't read the image: {error}. Is its file closed or damaged?"
        ) from error


def _plain(image: Any, keeping: Keeping, subject: str) -> Any:
    """``image`` in one of the modes of :data:`_CHANNELS`."""
    mode = image.mode
    if mode in _CHANNELS:
        return image
    if mode.startswith(_WIDE):
        return _levels(image, keeping, subject)
    if mode in {"LA", "PA", "La", "RGBa"} or "transparency" in image.info:
        return (image.convert("LA") if mode == "La" else image).convert("RGBA")
    return image.convert("L" if mode == "1" else "RGB")


def _levels(image: Any, keeping: Keeping, subject: str) -> Any:
    """An image of wide integers or floats as levels, by the rules for arrays."""
    if not image.mode.startswith("F"):
        image = image.convert("I")
    low, high = image.getextrema()
    usual = _WHITE if image.mode == "I" else 1
    if not (low >= 0 and high <= usual):
        keeping.tell(
            f"{subject}, of mode {image.mode},",
            f"has numbers outside 0 to {usual}. They are spread over the range from black to white, for each "
            "image anew",
        )
    else:
        low, high = 0, usual
    scale = _WHITE / (high - low) if high > low else 0.0
    return image.convert("F").point(lambda number: number * scale + (0.5 - low * scale)).convert("L")
