"""The pictures of ``trackside demo``, drawn by numpy: a confusion matrix, a sheet of predictions, a digit.

The first two are arrays of shape (height, width, 3) with values from 0 to 255. Their height is two thirds of
their width: MLflow cuts off the lower edge of higher images in its grid.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trackside.cli.demo_training import Digits

    Picture = NDArray[np.uint8]
    Color = tuple[int, int, int]

Pixel = TypeVar("Pixel", bound=np.generic)

WHITE, BLACK, GREY = (255, 255, 255), (0, 0, 0), (120, 120, 120)
BLUE, GREEN, RED = (30, 100, 200), (20, 140, 60), (210, 40, 40)

GLYPHS = "75557 26227 71747 71717 55711 74717 74757 71122 75757 75717".split()
"""The digits, three by five pixels: a row of pixels is a number of three bits."""

CELL = 26, 38
"""Height and width of a cell of the confusion matrix."""
TILE = 64, 78
"""Height and width of a prediction."""
TILES = 5, 6
"""Rows and columns of predictions."""
MARGIN = 4


def count_predictions(digits: NDArray[np.int64], predicted: NDArray[np.int64]) -> NDArray[np.int64]:
    """How often which digit was taken for which: a row for each digit, a column for each prediction."""
    counts = np.zeros((10, 10), np.int64)
    np.add.at(counts, (digits, predicted), 1)
    return counts


def draw_confusion(counts: NDArray[np.int64]) -> Picture:
    """The confusion matrix: the digit is on the left, the prediction on top, mistakes are red."""
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    picture = np.full((11 * CELL[0], 11 * CELL[1], 3), 255, np.uint8)
    for row, column in np.ndindex(11, 11):
        cell = picture[row * CELL[0] : (row + 1) * CELL[0], column * CELL[1] : (column + 1) * CELL[1]]
        if row == 0 or column == 0:
            if row != column:
                _write(cell, row + column - 1, GREY)
        elif count := int(counts[row - 1, column - 1]):
            share = float(shares[row - 1, column - 1]) ** 0.5  # the root: a single mistake is seen too
            cell[1:, 1:] = _mix(BLUE if row == column else RED, share)
            _write(cell, count, WHITE if share > 0.5 else BLACK)  # noqa: PLR2004 - half as dark as can be
        else:
            cell[1:, 1:] = 245
    return picture


def draw_predictions(split: Digits, predicted: NDArray[np.int64]) -> Picture:
    """The first images of ``split``, each with its prediction beside it: green if right, red if wrong."""
    rows, columns = TILES
    picture = np.full((rows * TILE[0], columns * TILE[1], 3), 255, np.uint8)
    shown = zip(np.ndindex(rows, columns), split.images, split.digits, predicted, strict=False)
    for (row, column), image, digit, guess in shown:
        top, left = row * TILE[0] + MARGIN, column * TILE[1] + MARGIN
        large = draw_digit(image, 7)
        height, width = large.shape
        picture[top : top + height, left : left + width] = large[..., np.newaxis]
        beside = picture[top : top + height, left + width : left + TILE[1] - MARGIN]
        _write(beside, int(guess), GREEN if guess == digit else RED, size=4)
    return picture


def draw_digit(image: NDArray[np.float32], times: int) -> Picture:
    """The digit black on white and ``times`` as large, as an array of shape (height, width)."""
    return _enlarge((255 - image * 255).astype(np.uint8), times)


def _write(cell: Picture, number: int, color: Color, size: int = 3) -> None:
    """Write ``number`` into the middle of ``cell``."""
    text = _enlarge(np.hstack([_glyph(figure) for figure in str(number)])[:, :-1], size)
    top, left = (cell.shape[0] - text.shape[0]) // 2, (cell.shape[1] - text.shape[1]) // 2
    cell[top : top + text.shape[0], left : left + text.shape[1]][text] = color


def _glyph(figure: str) -> NDArray[np.bool_]:
    """A digit, and an empty column after it."""
    rows = [[row >> bit & 1 for bit in (2, 1, 0)] + [0] for row in map(int, GLYPHS[int(figure)])]
    return np.array(rows, np.bool_)


def _enlarge(pixels: NDArray[Pixel], times: int) -> NDArray[Pixel]:
    return pixels.repeat(times, axis=0).repeat(times, axis=1)


def _mix(color: Color, share: float) -> NDArray[np.uint8]:
    """``color`` on white, as strong as ``share`` says."""
    return (255 - share * (255 - np.array(color))).astype(np.uint8)
