"""The training of ``trackside demo`` where torch is installed: a small convolutional network.

Written to be read as an example.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

import trackside
from trackside import ConfigEvent, MetricsSample
from trackside.cli.demo_training import Step, load_data

if TYPE_CHECKING:
    from collections.abc import Callable

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
    training, validation = map(Split.of, load_data(config["seed"]))
    model = make_model(**{name: value for name, value in config["model"].items() if name != "kind"})
    parameters = sum(p.numel() for p in model.parameters())
    trackside.emit(ConfigEvent({"model": {"parameters": parameters}}))

    steps, batch_size = config["schedule"]["steps"], config["data"]["batch_size"]
    optimizer, schedule = make_optimizer(model, config["optimizer"], steps)
    steps_per_epoch = len(training.digits) // batch_size
    last = Step(0, float("nan"), None)
    for step in range(1, steps + 1):
        metrics = learn(model, optimizer, training.sample(batch_size), config["clip_grad_norm"])
        metrics["lr"] = schedule.get_last_lr()[0]
        schedule.step()
        trackside.log(metrics, step=step, epoch=step / steps_per_epoch, prefix="train")
        accuracy = last.accuracy
        if step % steps_per_epoch == 0 or step == steps:
            accuracy = validate(model, validation, step)
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


def validate(model: nn.Module, split: Split, step: int) -> float:
    """Log the loss and the accuracy on ``split``, and return the accuracy."""
    model.eval()
    with torch.no_grad():
        logits = model(split.images)
    model.train()
    accuracy = (logits.argmax(dim=1) == split.digits).float().mean()
    loss = nn.functional.cross_entropy(logits, split.digits)
    metrics = {"loss": loss, "accuracy": accuracy}
    trackside.emit(MetricsSample(step=step, metrics=metrics, prefix="val"))
    return float(accuracy)


def make_model(channels: list[int], hidden: int, dropout: float) -> nn.Module:
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
