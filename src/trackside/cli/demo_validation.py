"""What both trainings of ``trackside demo`` log of the validation set: curves, pictures and files.

Written to be read as an example. Nothing here waits for MLflow.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import trackside
from trackside import MetricsSample
from trackside.cli.demo_pictures import count_predictions, draw_confusion, draw_digit, draw_predictions

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from trackside.cli.demo_training import Digits

    Array = NDArray[np.float32]

LOOKS = 5
"""How many times the pictures, the histogram and the checkpoint are logged while the network learns."""


class Validation:
    """Logs how a network does on ``split`` while it learns: before the first step and after each epoch.

    ``config`` is the run's configuration, and ``suffix`` that of the files that the network saves.
    """

    def __init__(self, split: Digits, config: dict[str, Any], steps_per_epoch: int, suffix: str) -> None:
        self._split, self._model, self._suffix = split, config["model"], suffix
        self._steps, self._steps_per_epoch = config["schedule"]["steps"], steps_per_epoch
        every = steps_per_epoch * max(1, self._steps // steps_per_epoch // LOOKS)
        # The first at step 0: there MLflow's slider stands when the page opens.
        self._looks = {*range(0, self._steps, every), self._steps}

    def is_due(self, step: int) -> bool:
        """Whether to validate after ``step``."""
        return step % self._steps_per_epoch == 0 or step == self._steps

    def log(self, step: int, chances: Array, weights: Any, save: Callable[[str], object]) -> float:
        """Log the state of the network after ``step``. Return its accuracy.

        ``chances`` says how probable each digit is, for each image. ``weights`` is an array or a tensor, and
        ``save`` writes all weights to a path.
        """
        metrics = measure(chances, self._split.digits)
        trackside.emit(MetricsSample(step=step, metrics=metrics, prefix="val"))
        if step in self._looks:
            log_pictures(self._split, chances, step)
            trackside.log_histogram(weights, "weights", step)
            self._log_network(step, metrics, save)
        if step == self._steps:
            trackside.log_table(list_mistakes(self._split, chances), "mistakes.json")
        return float(metrics["accuracy"])

    def _log_network(self, step: int, metrics: dict[str, Any], save: Callable[[str], object]) -> None:
        """Save and log a checkpoint, or at the end the model. After that the file may go."""
        named = {f"val/{name}": value for name, value in metrics.items()}  # as the curves are called
        # In this folder and not in /tmp: a file is held best on the journal's own file system.
        with tempfile.TemporaryDirectory(prefix=".digits-", dir=".") as folder:
            path = Path(folder, f"digits{self._suffix}")
            save(str(path))
            if step == self._steps:
                trackside.log_model(path, "digits", step, named, params=self._model)
            elif step > 0:
                trackside.log_checkpoint(path, step, named)


def measure(chances: Array, digits: NDArray[np.int64]) -> dict[str, Any]:
    """The loss and the accuracy, numpy scalars as they are."""
    right = chances[np.arange(len(digits)), digits]
    return {
        "loss": -np.log(np.maximum(right, 1e-12)).mean(),
        "accuracy": (chances.argmax(axis=1) == digits).mean(),
    }


def log_pictures(split: Digits, chances: Array, step: int) -> None:
    """Log two pictures. MLflow shows those of one key together, with a slider for the step."""
    predicted = chances.argmax(axis=1)
    confusion = draw_confusion(count_predictions(split.digits, predicted))
    trackside.log_image(confusion, key="val/confusion", step=step)
    trackside.log_image(draw_predictions(split, predicted), key="val/predictions", step=step)


def list_mistakes(split: Digits, chances: Array) -> list[dict[str, Any]]:
    """The images that were not recognised, the surest mistakes first."""
    from PIL import Image

    predicted, confidence = chances.argmax(axis=1), chances.max(axis=1)
    (wrong,) = np.nonzero(predicted != split.digits)
    return [
        {
            "image": Image.fromarray(draw_digit(split.images[index], 16)),
            "digit": int(split.digits[index]),
            "predicted": int(predicted[index]),
            "confidence": round(float(confidence[index]), 3),
        }
        for index in wrong[np.argsort(-confidence[wrong])]
    ]
