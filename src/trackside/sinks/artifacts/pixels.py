"""Arrays as pixels: which axis holds the colours, and which number is how bright.

One pass over the array, in pieces that fit into a processor's cache: the smallest and largest number are
found and the levels are made at once. A second pass is needed only for numbers beyond the usual range.

Invariant: the extra memory is that of the pixels, one byte each, and of one piece.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from trackside.errors import ArtifactError
from trackside.sinks.artifacts.arrays import is_tensor, numbers_of

if TYPE_CHECKING:
    from trackside.sinks.artifacts.keeping import Keeping

COLOURS = (1, 3, 4)
"""Channels an image may have: grey, red green blue, and these with opacity."""

MAX_BYTES = 1 << 28
"""Of one image's pixels: 256 MiB, 9,400 by 9,400 in colour."""

_PIECE = 1 << 16
"""Elements that are converted at a time."""

_TOLERANCE = 1e-3
"""How far a float may be outside 0 to 1 and still be taken for one that was rounded: a quarter of a level."""

_WHITE = 255

_DARK = 31
"""Up to here, whole numbers are rather those of classes in a mask."""


class Pixels(NamedTuple):
    """Bytes, one a channel and pixel, from the top left."""

    data: Any
    """Anything with the buffer protocol."""
    height: int
    width: int
    channels: int
    planar: bool = False
    """Whether all of one channel comes before the next."""

    def details(self) -> dict[str, Any]:
        """What an encoder has to know."""
        return {
            "height": self.height,
            "width": self.width,
            "channels": self.channels,
            "planar": self.planar,
        }


def pixels_of(value: Any, keeping: Keeping, subject: str) -> Pixels:
    """The pixels of an array or a tensor. Raises :class:`ArtifactError` if it is no image.

    ``subject``: what it is called in warnings.
    """
    array = numbers_of(value, "log_image")
    planar = _is_planar(array.shape, keeping, subject, tensor=is_tensor(value))
    array = _image(array)
    size = math.prod(array.shape)
    if size > MAX_BYTES:
        raise ArtifactError(
            f"the image has {array.shape}, more than {MAX_BYTES >> 20} MiB of pixels. Log a smaller one, "
            "or write it to a file and call log_artifact()"
        )
    data = levels_of(array, keeping, subject).data.cast("B")
    if array.ndim == 2:  # noqa: PLR2004
        height, width = array.shape
        return Pixels(data, height, width, 1)
    if planar:
        channels, height, width = array.shape
        return Pixels(data, height, width, channels, planar=channels > 1)
    height, width, channels = array.shape
    return Pixels(data, height, width, channels)


def _image(array: Any) -> Any:
    """Without the axis of a batch of one."""
    return array[0] if array.ndim == 4 and array.shape[0] == 1 else array  # noqa: PLR2004


def _is_planar(shape: tuple[int, ...], keeping: Keeping, subject: str, *, tensor: bool) -> bool:
    """Whether the first axis of three holds the colours. Raises :class:`ArtifactError` for odd shapes."""
    if len(shape) == 4 and shape[0] == 1:  # noqa: PLR2004
        shape = shape[1:]
    if len(shape) == 4:  # noqa: PLR2004
        raise ArtifactError(
            f"shape {shape} is a batch of {shape[0]} images. Log one of them, images[0], or a grid of them, "
            "such as torchvision.utils.make_grid(images)"
        )
    if len(shape) == 2:  # noqa: PLR2004
        return False
    if len(shape) != 3:  # noqa: PLR2004
        raise ArtifactError(f"shape {shape} is no image. Pass (H, W), (H, W, C) or (C, H, W)")
    first, last = shape[0] in COLOURS, shape[2] in COLOURS
    if not first and not last:
        raise ArtifactError(
            f"shape {shape} is no image: neither its first nor its last axis has 1, 3 or 4 channels. "
            "Pass (H, W), (H, W, C) or (C, H, W)"
        )
    if first and last:
        order = "(C, H, W), as torch has it" if tensor else "(H, W, C), as numpy has it"
        keeping.tell(
            f"{subject}, of shape {shape},",
            f"may be (C, H, W) or (H, W, C). It is read as {order}. Transpose it if that is wrong",
        )
        return tensor
    return first


def levels_of(array: Any, keeping: Keeping, subject: str) -> Any:
    """``array`` as contiguous uint8: how bright each pixel is."""
    numpy = sys.modules["numpy"]
    if array.dtype == numpy.uint8:
        levels = numpy.ascontiguousarray(array)
        _tell_if_dark(int(levels.max()), keeping, subject)
        return levels
    if array.dtype.kind == "b":
        return numpy.multiply(array, numpy.uint8(_WHITE), order="C")
    whole = array.dtype.kind in "iu"
    scale = 1.0 if whole else float(_WHITE)
    levels, low, high = _scaled(numpy, array, 0.0, scale)
    usual = low >= 0 and high <= _WHITE if whole else low >= -_TOLERANCE and high <= 1 + _TOLERANCE
    if usual:
        if whole:
            _tell_if_dark(int(high), keeping, subject)
        return levels
    return _spread(numpy, array, (low, high), keeping, subject)


def _tell_if_dark(high: int, keeping: Keeping, subject: str) -> None:
    """Tell the user if whole numbers look like those of classes."""
    if 0 < high <= _DARK:
        keeping.tell(
            subject,
            "has only small whole numbers, which are nearly black. For a mask pass bools. Spread the "
            "numbers of classes over 0 to 255",
        )


def _spread(numpy: Any, array: Any, ends: tuple[float, float], keeping: Keeping, subject: str) -> Any:
    """The levels of numbers beyond the usual range: the smallest is black, the largest is white."""
    low, high = ends
    if not (math.isfinite(low) and math.isfinite(high)):
        finite = array[numpy.isfinite(array)]
        keeping.tell(subject, "has pixels that are NaN or infinite. NaN is drawn black")
        if finite.size == 0:
            return numpy.zeros(array.shape, numpy.uint8)
        low, high = float(finite.min()), float(finite.max())
        if low >= -_TOLERANCE and high <= 1 + _TOLERANCE:
            return _scaled(numpy, array, 0.0, float(_WHITE))[0]
    usual = "0 to 255" if array.dtype.kind in "iu" else "0 to 1"
    keeping.tell(
        subject,
        f"has numbers outside {usual}. They are spread over the range from black to white, for each image "
        "anew. Scale your images yourself if their brightness should compare",
    )
    span = high - low
    return _scaled(numpy, array, low, _WHITE / span if span > 0 else 0.0)[0]


def _scaled(numpy: Any, array: Any, low: float, scale: float) -> tuple[Any, float, float]:
    """The levels ``(array - low) * scale``, rounded and cut to 0 to 255, and the ends of ``array``."""
    levels = numpy.empty(array.shape, numpy.uint8)
    smallest, largest = math.inf, -math.inf
    wide = numpy.float64 if array.dtype.itemsize > 4 else numpy.float32  # noqa: PLR2004
    with numpy.errstate(all="ignore"):
        for piece, target in _pieces(array, levels):
            smallest = numpy.minimum(smallest, piece.min())  # NaN stays
            largest = numpy.maximum(largest, piece.max())
            numbers = piece.astype(wide)
            if low:
                numbers -= low
            numbers *= scale
            numbers += 0.5
            numpy.fmax(numbers, 0, out=numbers)  # NaN becomes 0
            numpy.fmin(numbers, _WHITE, out=numbers)
            target[...] = numbers
    return levels, float(smallest), float(largest)


def _pieces(array: Any, levels: Any) -> Any:
    """Yield views of some rows of both, or of some elements where the memory has no gaps."""
    if array.flags.c_contiguous:
        array, levels = array.reshape(-1), levels.reshape(-1)
    row = max(1, math.prod(array.shape[1:]))
    rows = max(1, _PIECE // row)
    for start in range(0, len(array), rows):
        yield array[start : start + rows], levels[start : start + rows]
