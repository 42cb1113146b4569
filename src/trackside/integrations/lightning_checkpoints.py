"""Which checkpoint Lightning's ``ModelCheckpoint`` has just saved.

The path and the steps are private there. Without them the newest of its public paths is taken, without a
step.

A checkpoint's step counts what the optimizers did. Lightning's loggers count batches from 0, so the metrics
of a checkpoint have another step than the checkpoint itself: 3 and 4, or 3 and 8 with two optimizers.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple
from weakref import WeakKeyDictionary, ref

if TYPE_CHECKING:
    from collections.abc import Mapping

_NEVER = -1.0

_trainers: WeakKeyDictionary[Any, ref[Any]] = WeakKeyDictionary()
"""Which Trainer a logger belongs to. It is kept here because loggers are copied and pickled."""


def serve(logger: Any, trainer: Any) -> None:
    """``logger`` logs for ``trainer`` from now on."""
    _trainers[logger] = ref(trainer)


class SavedCheckpoint(NamedTuple):
    """A checkpoint, and what it was saved for."""

    path: str
    step: int | None
    metrics: Mapping[str, Any]
    metrics_step: int | None
    """At which step Lightning's loggers have the metrics."""


def saved_by(callback: Any, logger: Any) -> SavedCheckpoint | None:
    """The checkpoint that ``callback`` has just saved, as ``logger`` counts. None if it does not say."""
    path = str(getattr(callback, "_last_checkpoint_saved", "") or _newest(callback))
    if not path:
        return None
    monitor = getattr(callback, "monitor", None)
    score = (getattr(callback, "best_k_models", None) or {}).get(path)
    metrics = {monitor: score} if monitor and score is not None else {}
    step = getattr(callback, "_last_global_step_saved", None)
    return SavedCheckpoint(path, step, metrics, _logged_step(logger))


def _logged_step(logger: Any) -> int | None:
    """The step that Lightning gives to metrics now. None if it does not say.

    It counts an epoch's last batch before the callbacks of its end, and counts back for the epoch's metrics.
    """
    loop = getattr(getattr(_trainers.get(logger, _no_trainer)(), "fit_loop", None), "epoch_loop", None)
    batches: int | None = getattr(loop, "_batches_that_stepped", None)
    if loop is None or batches is None:
        return None
    progress = loop.batch_progress.current
    at_its_end = loop.trainer.training and progress.completed == progress.ready
    return batches - 1 if at_its_end and batches else batches


def _no_trainer() -> None:
    return None


def _newest(callback: Any) -> str:
    paths = [getattr(callback, name, "") for name in ("best_model_path", "last_model_path")]
    return max(filter(None, paths), key=_changed, default="")


def _changed(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except OSError:
        return _NEVER
