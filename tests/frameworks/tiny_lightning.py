"""A training of seconds for programs under test. ``LIGHTNING`` names the package that it uses."""

from __future__ import annotations

import importlib
import os
from typing import Any

import torch
from torch.utils.data import DataLoader, TensorDataset

lightning: Any = importlib.import_module(os.environ.get("LIGHTNING", "lightning.pytorch"))
Callback: Any = lightning.Callback


class Tiny(lightning.LightningModule):
    """A linear layer that logs in every way a Trainer has."""

    def __init__(self, lr: float = 0.1, **more: Any) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(4, 1)

    def training_step(self, batch, index):
        loss = self._loss(batch)
        self.log("train/loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, index):
        self.log("val_loss", self._loss(batch))

    def test_step(self, batch, index):
        self.log("test_loss", self._loss(batch))

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])

    def _loss(self, batch):
        return self.layer(batch[0]).pow(2).mean()


def data() -> Any:
    """Four batches, the same each time."""
    generator = torch.Generator().manual_seed(0)
    return DataLoader(TensorDataset(torch.randn(16, 4, generator=generator)), batch_size=4)


def trainer(logger: Any, **options: Any) -> Any:
    """A Trainer that logs each step, and prints nothing."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    base = {"max_epochs": 2, "log_every_n_steps": 1, "accelerator": "cpu", "default_root_dir": "root"}
    return lightning.Trainer(**{**quiet, **base, **options}, logger=logger)


class AtStep(Callback):
    """Calls ``action(trainer)`` once, when that many steps are done."""

    def __init__(self, step: int, action: Any) -> None:
        self.step, self.action = step, action

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step == self.step:
            self.action(trainer)
