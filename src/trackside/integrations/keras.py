"""Keras 3, on any backend.

Pass the callback to ``fit()`` and ``evaluate()``::

    model.fit(x, y, validation_data=(u, v), callbacks=[TracksideCallback(experiment_name="digits")])

Invariants:

* ``loss`` is ``train/loss``, ``val_loss`` is ``val/loss``, and the metrics of ``evaluate()`` are below
  ``test``. Their step is the epoch. With ``every_n_batches`` it is the number of batches so far, and the
  epoch is a metric.
* A ``fit()`` with an ``initial_epoch`` continues the run of the one before. Any other ``fit()`` has its own.
* A callback for epochs has no hook for batches, because such a hook would make Keras wait for each batch. The
  hook for batches may be called on several threads at once (``async_safe``), so Keras does not wait for it.
"""

from __future__ import annotations

import contextlib
from collections import deque
from typing import TYPE_CHECKING, Any

from trackside.integrations.missing import needs_extra
from trackside.integrations.training_run import TrainingRun

with needs_extra("keras"):
    from keras.callbacks import Callback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from trackside.session.options import StartOptions
    from trackside.session.run import Run

__all__ = ["TracksideCallback"]

RECENT = 256
"""Batches that are remembered, more than Keras has threads: the latest of them is the step."""


class TracksideCallback(Callback):
    """Logs what ``fit()`` and ``evaluate()`` report into a trackside run. ``options``: those of ``start()``.

    ``every_n_batches``: log the metrics of the epoch so far as ``batch/...``, every so many batches.
    """

    async_safe = True

    def __init__(self, *, every_n_batches: int | None = None, **options: Unpack[StartOptions]) -> None:
        super().__init__()
        if every_n_batches is not None and every_n_batches < 1:
            raise ValueError(f"every_n_batches must be 1 or more, or None, not {every_n_batches}")
        self._options = options
        self._training = TrainingRun(options.get("bus"))
        self._every = every_n_batches
        self._step = self._batches_before = 0
        self._seen: deque[int] = deque(maxlen=RECENT)
        self._is_fitting = self._has_begun = False
        if every_n_batches is not None:
            self.on_train_batch_end = self._on_batch

    @property
    def run(self) -> Run | None:
        """The run of the latest ``fit()`` or ``evaluate()``. None before it."""
        return self._training.run

    # What Keras calls

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """The run begins with the first epoch, whose number says whether this training continues another."""
        self._is_fitting, self._has_begun = True, False

    def on_epoch_begin(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Begin the run with the first epoch."""
        if self._has_begun:
            return
        self._has_begun = True
        options = self._options.copy()
        options.setdefault("config", self._config())
        if epoch and self._training.is_open:
            self._training.begin_again(**options)
        else:
            self._step = 0
            self._seen.clear()
            self._training.begin(**options)
        self._batches_before = self._step

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Log the metrics of training and validation."""
        metrics = apart(logs or {})
        rate = self._learning_rate()
        if rate is not None:
            metrics.setdefault("train/learning_rate", rate)
        if self._every is None:
            self._step = epoch
            self._log(metrics)
        else:
            self._step = max(self._seen, default=self._step)
            self._log({**metrics, "epoch": epoch})
        self._batches_before = self._step

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """The training is complete. The run stays open for evaluations."""
        self._is_fitting = False
        self._training.complete()

    def on_test_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Log the metrics of an ``evaluate()``. Those of a validation come with the epoch."""
        if self._is_fitting and self._training.is_cut_short:
            return
        if not self._training.is_open:
            self._training.begin(**self._options)
            self._training.complete()
        self._log({f"test/{name}": value for name, value in (logs or {}).items()})

    def _on_batch(self, batch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Log a batch that is due. Threads do this at once, each for its batch: nothing here is read back."""
        step, every = self._batches_before + batch + 1, self._every or 1
        self._seen.append(step)
        at_once = getattr(self.model, "steps_per_execution", 1) or 1
        if step // every > (step - at_once) // every:
            self._log({f"batch/{name}": value for name, value in (logs or {}).items()}, step)

    # The run

    def _log(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        if self.run is not None:
            self.run.log(metrics, step=self._step if step is None else step)

    def _learning_rate(self) -> float | None:
        with contextlib.suppress(Exception):  # an optimizer of the user's own
            return float(self.model.optimizer.learning_rate)
        return None

    def _config(self) -> dict[str, Any]:
        """What ``fit()`` was given, and what the model and its optimizer are."""
        config: dict[str, Any] = {"fit": dict(self.params or {})}
        with contextlib.suppress(Exception):  # a model without an optimizer
            config["optimizer"] = self.model.optimizer.get_config()
        with contextlib.suppress(Exception):  # a model that is not built yet
            config["model"] = {"name": self.model.name}
            config["model"]["num_parameters"] = self.model.count_params()
        return config


def apart(logs: Mapping[str, Any]) -> dict[str, Any]:
    """The metrics of an epoch, those of training and validation apart.

    >>> apart({"loss": 1.0, "val_loss": 2.0})
    {'train/loss': 1.0, 'val/loss': 2.0}
    """
    return {
        f"val/{name[4:]}" if name.startswith("val_") else f"train/{name}": value
        for name, value in logs.items()
    }
