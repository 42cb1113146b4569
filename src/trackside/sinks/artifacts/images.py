"""Images: the pixels go into the journal as they are, and the shipper compresses them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.coerce.floats import type_name
from trackside.encoding.pixels import PIXELS
from trackside.encoding.rasters import FORMATS, suffix_of
from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.sinks.artifacts.arrays import is_array
from trackside.sinks.artifacts.pillow import is_pillow, pixels_of_pillow
from trackside.sinks.artifacts.pixels import pixels_of
from trackside.sinks.artifacts.places import place_of
from trackside.sinks.described import subject_of

if TYPE_CHECKING:
    from trackside.artifact_events import ImageEvent
    from trackside.sinks.artifacts.keeping import Keeping
    from trackside.sinks.artifacts.pixels import Pixels


def image_record(event: ImageEvent, keeping: Keeping) -> ArtifactRecord:
    """Keep the pixels. Raises :class:`ArtifactError` for what is no image, and ``OSError``."""
    place = place_of(event, keeping)
    if place.step is None:
        check_format(place.name)
    pixels = image_pixels(event.image, keeping, subject_of(event))
    return pixels_record(event, "image", place, pixels, keeping)


def pixels_record(event: Any, kind: str, place: Any, pixels: Pixels, keeping: Keeping) -> ArtifactRecord:
    """Keep ``pixels`` for the record of ``event``. Raises ``OSError``."""
    return ArtifactRecord(
        0,
        event.timestamp_ms,
        kind,
        place.name,
        place.step,
        keeping.keep_bytes(memoryview(pixels.data)),
        PIXELS,
        details=pixels.details(),
    )


def check_format(name: str) -> None:
    """Raise :class:`ArtifactError` if no image can be made under this name."""
    if suffix_of(name) not in FORMATS:
        known = ", ".join(sorted(FORMATS))
        raise ArtifactError(f"{name!r} names no image. End it in .png, or one of {known}")


def image_pixels(image: Any, keeping: Keeping, subject: str) -> Pixels:
    """The pixels of an image, called ``subject``. Raises :class:`ArtifactError` for what is none."""
    if hasattr(image, "to_pil"):  # mlflow.Image
        image = image.to_pil()
    if is_pillow(image):
        return pixels_of_pillow(image, keeping, subject)
    if is_array(image):
        return pixels_of(image, keeping, subject)
    raise ArtifactError(
        f"log_image() takes an image of Pillow, an array or a tensor, not {type_name(type(image))}. "
        f"{_advice(image)}"
    )


def _advice(image: Any) -> str:
    if isinstance(image, (str, bytes)) or hasattr(image, "__fspath__"):
        return "For a file call log_artifact(), or open it: PIL.Image.open(path)"
    if hasattr(image, "savefig"):
        return "For a figure call log_figure()"
    return "Pass numpy.asarray() of it" if isinstance(image, (list, tuple)) else "Convert it"
