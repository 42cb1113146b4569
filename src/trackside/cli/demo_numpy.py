"""The training of ``trackside demo`` where torch is not installed: a small network in numpy.

Written to be read as an example: the loop is that of :mod:`trackside.cli.demo_torch`, and so are the metrics.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

import trackside
from trackside import ConfigEvent
from trackside.cli.demo_training import Digits, Step, load_data, log_data
from trackside.cli.demo_validation import Validation, measure

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    Array = NDArray[np.float32]

MODEL = {"kind": "numpy", "hidden": 64}
WARM_UP = 0.3
"""Share of the steps in which the learning rate rises."""


def train(config: dict[str, Any], on_step: Callable[[Step], None]) -> Step:
    """Train as ``config`` says, log every step on the default bus, and return the last step."""
    random = np.random.default_rng(config["seed"])
    training, held_back = load_data(config["seed"])
    log_data(training, held_back)
    network = Network(config["model"]["hidden"], config["optimizer"], random)
    trackside.emit(ConfigEvent({"model": {"parameters": sum(w.size for w in network.weights)}}))

    steps, batch_size = config["schedule"]["steps"], config["data"]["batch_size"]
    steps_per_epoch = len(training.digits) // batch_size
    validation = Validation(held_back, config, steps_per_epoch, ".npz")

    def validate(step: int) -> float:
        return validation.log(step, network.predict(held_back), network.weights[0], network.save)

    last = Step(0, float("nan"), validate(0))
    for step in range(1, steps + 1):
        lr = one_cycle(step / steps, config["optimizer"]["lr"])
        chosen = random.integers(len(training.digits), size=batch_size)
        batch = Digits(training.images[chosen], training.digits[chosen])
        metrics = network.learn(batch, lr, config["clip_grad_norm"])
        trackside.log({**metrics, "lr": lr}, step=step, epoch=step / steps_per_epoch, prefix="train")
        accuracy = validate(step) if validation.is_due(step) else last.accuracy
        last = Step(step, float(metrics["loss"]), accuracy)
        on_step(last)
    return last


def one_cycle(progress: float, peak: float) -> float:
    """The learning rate: up to ``peak`` and down again along a cosine."""
    rising = progress < WARM_UP
    position = progress / WARM_UP if rising else (1 - progress) / (1 - WARM_UP)
    return peak * (1 - math.cos(math.pi * position)) / 2


class Network:
    """A network of 64 pixels, a hidden layer and ten logits. It learns by AdamW."""

    def __init__(self, hidden: int, optimizer: dict[str, Any], random: np.random.Generator) -> None:
        self.weights: list[Array] = [
            (random.standard_normal((64, hidden)) * math.sqrt(2 / 64)).astype(np.float32),
            np.zeros(hidden, np.float32),
            (random.standard_normal((hidden, 10)) * math.sqrt(2 / hidden)).astype(np.float32),
            np.zeros(10, np.float32),
        ]
        self._betas, self._decay = optimizer["betas"], optimizer["weight_decay"]
        self._means = [np.zeros_like(w) for w in self.weights]
        self._squares = [np.zeros_like(w) for w in self.weights]
        self._updates = 0

    def learn(self, batch: Digits, lr: float, clip: float) -> dict[str, Any]:
        """Take one optimisation step. Return its metrics, numpy scalars as they are."""
        pixels, hidden, chances = self._forward(batch)
        error = chances.copy()
        error[np.arange(len(error)), batch.digits] -= 1
        error /= len(error)
        below = (error @ self.weights[2].T) * (hidden > 0)
        gradients = [pixels.T @ below, below.sum(axis=0), hidden.T @ error, error.sum(axis=0)]
        norm = math.sqrt(sum(float((g * g).sum()) for g in gradients))
        scale = min(1.0, clip / (norm + 1e-6))
        self._update([g * scale for g in gradients], lr)
        return {**measure(chances, batch.digits), "grad_norm": norm}

    def predict(self, split: Digits) -> Array:
        """How probable each of the ten digits is, for each image of ``split``."""
        return self._forward(split)[2]

    def save(self, path: str) -> None:
        """Write the weights to ``path``."""
        np.savez(path, *self.weights)

    def _forward(self, batch: Digits) -> tuple[Array, Array, Array]:
        pixels = batch.images.reshape(len(batch.images), -1)
        hidden = np.maximum(pixels @ self.weights[0] + self.weights[1], 0)
        logits = hidden @ self.weights[2] + self.weights[3]
        chances = np.exp(logits - logits.max(axis=1, keepdims=True))
        return pixels, hidden, chances / chances.sum(axis=1, keepdims=True)

    def _update(self, gradients: list[Array], lr: float) -> None:
        self._updates += 1
        first, second = self._betas
        state = zip(self.weights, gradients, self._means, self._squares, strict=True)
        for weight, gradient, mean, square in state:
            mean[:] += (1 - first) * (gradient - mean)
            square[:] += (1 - second) * (gradient * gradient - square)
            step = mean / (1 - first**self._updates)
            scale = np.sqrt(square / (1 - second**self._updates)) + 1e-8
            weight[:] -= lr * (step / scale + self._decay * weight)
