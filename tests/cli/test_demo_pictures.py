"""What ``trackside demo`` shows of its network: pictures drawn by numpy, and the list of mistakes."""

from __future__ import annotations

import numpy as np
import pytest

from trackside.cli.demo_pictures import (
    CELL,
    GREEN,
    RED,
    TILE,
    count_predictions,
    draw_confusion,
    draw_digit,
    draw_predictions,
)
from trackside.cli.demo_training import Digits, make_config
from trackside.cli.demo_validation import Validation, list_mistakes, measure

DIGITS = np.array([3, 3, 8, 1, 9])
CHANCES = np.full((5, 10), 0.01, np.float32)
CHANCES[np.arange(5), [3, 8, 8, 7, 9]] = [0.9, 0.5, 0.9, 0.8, 0.9]
SPLIT = Digits(np.linspace(0, 1, 5 * 64, dtype=np.float32).reshape(5, 8, 8), DIGITS)


def has_color(picture: np.ndarray, color: tuple[int, int, int]) -> bool:
    """Whether a pixel of ``picture`` has exactly ``color``."""
    return bool((picture == color).all(axis=-1).any())


def cell(picture: np.ndarray, digit: int, predicted: int) -> np.ndarray:
    """The cell of the confusion matrix for ``digit`` taken for ``predicted``."""
    (height, width), (row, column) = CELL, (digit + 1, predicted + 1)
    return picture[row * height : (row + 1) * height, column * width : (column + 1) * width]


def tile(picture: np.ndarray, number: int) -> np.ndarray:
    """The tile of a prediction in the first row."""
    return picture[: TILE[0], number * TILE[1] : (number + 1) * TILE[1]]


def test_predictions_are_counted_by_digit():
    """A row says what became of a digit, and all images are in it."""
    counts = count_predictions(DIGITS, CHANCES.argmax(axis=1))
    assert (counts[3, 3], counts[3, 8], counts[1, 7], counts.sum()) == (1, 1, 1, 5)


def test_the_confusion_matrix_shows_right_in_blue_and_wrong_in_red():
    """In the cell of the digit and the prediction, at the place that the labels say."""
    picture = draw_confusion(count_predictions(DIGITS, CHANCES.argmax(axis=1)))
    assert picture.dtype == np.uint8
    assert picture.shape == (11 * CELL[0], 11 * CELL[1], 3)
    red, _, blue = cell(picture, 3, 3)[3, 3].astype(int)
    assert blue > red
    red, _, blue = cell(picture, 3, 8)[3, 3].astype(int)
    assert red > blue
    assert len(np.unique(cell(picture, 5, 5)[1:, 1:])) == 1, "no count where nothing was predicted"


def test_every_count_can_be_drawn():
    """Up to all images of the validation set, in one cell."""
    assert draw_confusion(np.full((10, 10), 359)).shape == (11 * CELL[0], 11 * CELL[1], 3)


def test_predictions_are_green_if_right_and_red_if_wrong():
    """Each beside its image. Fewer images than tiles leave white ones."""
    picture = draw_predictions(SPLIT, CHANCES.argmax(axis=1))
    right = [(has_color(tile(picture, n), GREEN), has_color(tile(picture, n), RED)) for n in range(5)]
    assert right == [(True, False), (False, True), (True, False), (False, True), (True, False)]
    assert (tile(picture, 5) == 255).all()


def test_mistakes_come_with_the_surest_first():
    """With their images, and plain numbers beside them."""
    mistakes = list_mistakes(SPLIT, CHANCES)
    pictures = [np.asarray(row.pop("image")) for row in mistakes]
    assert mistakes == [
        {"digit": 1, "predicted": 7, "confidence": 0.8},
        {"digit": 3, "predicted": 8, "confidence": 0.5},
    ]
    assert pictures[0].shape == (8 * 16, 8 * 16)
    assert all(np.array_equal(pictures[n], draw_digit(SPLIT.images[[3, 1][n]], 16)) for n in (0, 1))


def test_loss_and_accuracy():
    """The mean of the cross-entropy, also for a digit held impossible, and the share of right ones."""
    found = measure(CHANCES, DIGITS)
    assert found["accuracy"] == pytest.approx(0.6)
    assert found["loss"] == pytest.approx(-np.log([0.9, 0.01, 0.9, 0.01, 0.9]).mean(), rel=1e-5)
    assert np.isfinite(measure(np.zeros((1, 10), np.float32), np.array([4]))["loss"])


@pytest.mark.parametrize(("steps", "due"), [(1, {0, 1}), (44, {0, 22, 44}), (50, {0, 22, 44, 50})])
def test_each_epoch_is_validated_and_the_last_step(steps: int, due: set[int]):
    """Step 0 too: MLflow's slider starts there."""
    validation = Validation(SPLIT, make_config(steps, {}), 22, ".npz")
    assert {step for step in range(steps + 1) if validation.is_due(step)} == due
