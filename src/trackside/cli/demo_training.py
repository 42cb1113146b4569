"""What both trainings of ``trackside demo`` share: the configuration, the data, and what they report.

The trainings themselves are :mod:`trackside.cli.demo_torch` and, where torch is not installed,
:mod:`trackside.cli.demo_numpy`. They log the same metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

import trackside
from trackside.artifact_events import HistogramEvent
from trackside.sinks.artifacts.distributions import PERCENTILES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from trackside import MetricsSample
    from trackside.events import ArtifactEvent

VALIDATION_SHARE = 0.2

DESCRIPTION = """\
A small network learns **scikit-learn's digits**: 1,797 images of 8 by 8 pixels, a fifth of \
them held back for validation.

Every optimisation step is logged. The curves to look at: `train/loss`, `train/accuracy` and `val/accuracy`. \
Among them are pictures with a slider for the step: `val/confusion`, `val/predictions` and \
`weights/histogram`. The mistakes are in `mistakes.json` among the artifacts.
"""
"""Shown on the run's page, as Markdown."""


def make_config(steps: int, model: dict[str, Any]) -> dict[str, Any]:
    """Return the run's configuration, nested as configurations are. ``model`` describes the network."""
    return {
        "seed": 0,
        "data": {"name": "digits", "batch_size": 64},
        "model": model,
        "optimizer": {"name": "AdamW", "lr": 3e-3, "betas": [0.9, 0.99], "weight_decay": 0.01},
        "schedule": {"name": "OneCycleLR", "steps": steps},
        "clip_grad_norm": 1.0,
    }


class Step(NamedTuple):
    """What the progress display is told after each step.

    ``accuracy`` is the latest on the validation set.
    """

    number: int
    loss: float
    accuracy: float


class PointCounter:
    """A sink that counts the points that are emitted, to compare them with what was delivered."""

    def __init__(self) -> None:
        self.points = 0

    def on_metrics(self, sample: MetricsSample) -> None:
        """Count the sample's points as MLflow will: one a metric, and one for the epoch."""
        self.points += len(sample.metrics) + (sample.epoch is not None)

    def on_artifact(self, event: ArtifactEvent) -> None:
        """Count the percentiles that a histogram becomes, the smallest and the largest value among them."""
        if isinstance(event, HistogramEvent):
            self.points += len(PERCENTILES) + 2


class Digits(NamedTuple):
    """Images of shape (n, 8, 8) with values from 0 to 1, and the digits they show."""

    images: NDArray[np.float32]
    digits: NDArray[np.int64]


def load_data(seed: int) -> tuple[Digits, Digits]:
    """scikit-learn's 1,797 digits, shuffled, as a training and a validation set."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.target))
    held_back = int(len(order) * VALIDATION_SHARE)
    parts = order[held_back:], order[:held_back]
    training, validation = (
        Digits((bunch.images[part] / 16).astype(np.float32), bunch.target[part].astype(np.int64))
        for part in parts
    )
    return training, validation


def log_data(training: Digits, validation: Digits) -> None:
    """Say which data the run uses, and for what."""
    for split, context in ((training, "train"), (validation, "eval")):
        trackside.log_dataset(split.images, context, name="digits")
