"""A histogram as a picture: bars, the values at both ends, and the count of the highest bar.

It is drawn byte by byte, so that the shipper needs neither matplotlib nor Pillow for it. Pure.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from trackside.encoding.rasters import Raster
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Sequence

HISTOGRAM = "histogram"
"""The form of a record that holds no file. ``details`` has ``edges`` and ``counts``, and one edge more."""

WIDTH, HEIGHT = 512, 256
_TOP, _BOTTOM, _SIDE = 20, 20, 8
_PIXEL = 3
_WHITE, _BAR, _INK = b"\xff\xff\xff", b"\x43\x80\xb4", b"\x40\x40\x40"

_FONT = {
    "0": (7, 5, 5, 5, 7),
    "1": (2, 6, 2, 2, 7),
    "2": (7, 1, 7, 4, 7),
    "3": (7, 1, 3, 1, 7),
    "4": (5, 5, 7, 1, 1),
    "5": (7, 4, 7, 1, 7),
    "6": (7, 4, 7, 5, 7),
    "7": (7, 1, 1, 2, 2),
    "8": (7, 5, 7, 5, 7),
    "9": (7, 5, 7, 1, 7),
    ".": (0, 0, 0, 0, 2),
    "-": (0, 0, 7, 0, 0),
    "+": (0, 2, 7, 2, 0),
    "e": (0, 7, 7, 4, 7),
}
"""Five rows of three dots."""

_DOT = 2
_ADVANCE = 4 * _DOT


def drawn(details: dict[str, Any]) -> Raster:
    """The picture of a histogram. Raises :class:`RejectedError` if ``details`` holds none."""
    try:
        edges = [float(edge) for edge in details["edges"]]
        counts = [float(count) for count in details["counts"]]
    except (KeyError, TypeError, ValueError) as error:
        raise RejectedError(f"the histogram can't be read: {error!r}") from error
    finite = all(map(math.isfinite, [*edges, *counts]))
    if not counts or len(edges) != len(counts) + 1 or not finite or min(counts) < 0:
        raise RejectedError(f"the histogram has {len(edges)} edges for {len(counts)} counts, or odd numbers")
    canvas = bytearray(_WHITE * (WIDTH * HEIGHT))
    _draw_bars(canvas, edges, counts)
    _fill(canvas, (_SIDE, HEIGHT - _BOTTOM), (WIDTH - 2 * _SIDE, 1), _INK)
    left, right = f"{edges[0]:.4g}", f"{edges[-1]:.4g}"
    _write(canvas, _SIDE, HEIGHT - _BOTTOM + 5, left)
    _write(canvas, WIDTH - _SIDE - _ADVANCE * len(right), HEIGHT - _BOTTOM + 5, right)
    _write(canvas, _SIDE, 4, f"{max(counts):.6g}")
    return Raster(bytes(canvas), WIDTH, HEIGHT, _PIXEL)


def _draw_bars(canvas: bytearray, edges: Sequence[float], counts: Sequence[float]) -> None:
    """Bars as wide as their bins, and the highest as high as the picture. A value seen once is seen."""
    room, tallest = WIDTH - 2 * _SIDE, max(counts) or 1.0
    space = HEIGHT - _TOP - _BOTTOM
    # In this order, nothing overflows, however far the ends are apart.
    span = edges[-1] / 2 - edges[0] / 2 or 1.0
    at = [min(room, max(0, round((edge / 2 - edges[0] / 2) / span * room))) for edge in edges]
    for start, end, count in zip(at, at[1:], counts, strict=False):
        height = math.ceil(count / tallest * space)
        width = max(1, end - start - (end - start > 3))  # noqa: PLR2004 - a gap, where there is room for one
        _fill(canvas, (_SIDE + start, HEIGHT - _BOTTOM - height), (width, height), _BAR)


def _fill(canvas: bytearray, corner: tuple[int, int], size: tuple[int, int], colour: bytes) -> None:
    (left, top), (width, height) = corner, size
    for row in range(top, top + height):
        start = (row * WIDTH + left) * _PIXEL
        canvas[start : start + width * _PIXEL] = colour * width


def _write(canvas: bytearray, left: int, top: int, text: str) -> None:
    for index, letter in enumerate(text):
        for row, dots in enumerate(_FONT[letter]):
            for column in range(3):
                if dots & (4 >> column):
                    x = left + index * _ADVANCE + column * _DOT
                    _fill(canvas, (x, top + row * _DOT), (_DOT, _DOT), _INK)
