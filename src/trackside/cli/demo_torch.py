"""The training of ``trackside demo`` where torch is installed: a small convolutional network.

Written to be read as an example.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import trackside
from trackside import ConfigEvent
from trackside.cli.demo_training import Step, load_data, log_data
from trackside.cli.demo_validation import Validation

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from trackside.cli.demo_training import Digits

MODEL = {"kind": "torch", "channels": [16, 32], "hidden": 64, "dropout": 0.2}


@dataclass(frozen=True)
class Split:
    """Images of shape (n, 1, 8, 8) with values from 0 to 1, and their digits."""

    images: Tensor
    digits: Tensor

    @classmethod
    def of(cls, data: Digits) -> Split:
        """The same as tensors."""
        return cls(torch.from_numpy(data.images).unsqueeze(1), torch.from_numpy(data.digits))

    def sample(self, size: int) -> Split:
        """A batch of ``size``, drawn with replacement."""
        chosen = torch.randint(len(self.digits), (size,))
        return Split(self.images[chosen], self.digits[chosen])


def train(config: dict[str, Any], on_step: Callable[[Step], None]) -> Step:
    """Train as ``config`` says, log every step on the default bus, and return the last step."""
    # The network is too small for more, and OpenMP's threads spin when another process is busy.
    torch.set_num_threads(1)
    torch.manual_seed(config["seed"])
    data = load_data(config["seed"])
    log_data(*data)
    training, held_back = map(Split.of, data)
    model = make_model(**{name: value for name, value in config["model"].items() if name != "kind"})
    parameters = sum(p.numel() for p in model.parameters())
    trackside.emit(ConfigEvent({"model": {"parameters": parameters}}))

    steps, batch_size = config["schedule"]["steps"], config["data"]["batch_size"]
    optimizer, schedule = make_optimizer(model, config["optimizer"], steps)
    steps_per_epoch = len(training.digits) // batch_size
    validation = Validation(data[1], config, steps_per_epoch, ".pt")

    def validate(step: int) -> float:
        save = partial(torch.save, model.state_dict())
        return validation.log(step, predict(model, held_back.images), model[0].weight, save)

    last = Step(0, float("nan"), validate(0))
    for step in range(1, steps + 1):
        metrics = learn(model, optimizer, training.sample(batch_size), config["clip_grad_norm"])
        metrics["lr"] = schedule.get_last_lr()[0]
        schedule.step()
        trackside.log(metrics, step=step, epoch=step / steps_per_epoch, prefix="train")
        accuracy = validate(step) if validation.is_due(step) else last.accuracy
        last = Step(step, float(metrics["loss"]), accuracy)
        on_step(last)
    return last


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, batch: Split, clip: float) -> dict[str, Any]:
    """Take one optimisation step. Return its metrics, tensors as they are."""
    logits = model(batch.images)
    loss = nn.functional.cross_entropy(logits, batch.digits)
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]  # as torch ships it
    grad_norm = nn.utils.clip_grad_norm_(model.parameters(), clip)
    optimizer.step()
    right = logits.argmax(dim=1) == batch.digits
    return {"loss": loss.detach(), "accuracy": right.float().mean(), "grad_norm": grad_norm}


def predict(model: nn.Module, images: Tensor) -> NDArray[np.float32]:
    """How probable each of the ten digits is, for each of ``images``."""
    model.eval()
    with torch.no_grad():
        chances: NDArray[np.float32] = model(images).softmax(dim=1).numpy()
    model.train()
    return chances


def make_model(channels: list[int], hidden: int, dropout: float) -> nn.Sequential:
    """A small convolutional network: 8 by 8 pixels in, ten logits out."""
    narrow, wide = channels
    return nn.Sequential(
        nn.Conv2d(1, narrow, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(narrow, wide, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(dropout),
        nn.Linear(wide * 4 * 4, hidden),
        nn.ReLU(),
        nn.Linear(hidden, 10),
    )


def make_optimizer(
    model: nn.Module, options: dict[str, Any], steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, its learning rate rising to ``lr`` and falling again within ``steps``."""
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=options["lr"],
        betas=tuple(options["betas"]),
        weight_decay=options["weight_decay"],
    )
    lr = options["lr"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=lr, total_steps=steps)
    return optimizer, schedule
