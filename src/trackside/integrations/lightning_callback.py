"""A callback that every Trainer with a :class:`TracksideLogger` gets by itself: checkpoints name their run.

Lightning asks each installed package for callbacks as a Trainer is made (the entry points
``lightning.pytorch.callbacks_factory`` and ``pytorch_lightning.callbacks_factory``).

The order of events in ``fit`` makes it necessary. The Trainer asks for ``logger.experiment`` first, then
loads the checkpoint, and then logs the hyperparameters. So the run begins after the checkpoint has said which
run it is.

Invariants:

* A program without a :class:`TracksideLogger` gets no callback, and nothing is imported for it.
* The callback keeps no state of its own, so a checkpoint can be loaded without it.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING, Any

from trackside.integrations.lightning_checkpoints import serve

if TYPE_CHECKING:
    from trackside.integrations.lightning import TracksideLogger

KEY = "trackside"
"""The checkpoint's entry: a list of states, one for each logger of ours."""


def for_lightning() -> list[Any]:
    """The callbacks for a Trainer of ``lightning``."""
    return _callbacks("lightning.pytorch")


def for_pytorch_lightning() -> list[Any]:
    """The callbacks for a Trainer of ``pytorch_lightning``."""
    return _callbacks("pytorch_lightning")


def _callbacks(package: str) -> list[Any]:
    return [make_callback(package)] if "trackside.integrations.lightning" in sys.modules else []


def make_callback(package: str) -> Any:
    """The callback, of the class that ``package`` has for them."""
    base = importlib.import_module(f"{package}.callbacks").Callback
    made = type("TracksideCheckpoints", (_Checkpoints, base), {"package": package})
    return made()


class _Checkpoints:
    """The hooks. Each of Lightning's packages has a class of its own for callbacks, which comes second."""

    package: str

    def on_fit_start(self, trainer: Any, _module: Any) -> None:
        """Begin the run, unless the strategy loads the checkpoint later (FSDP and DeepSpeed do)."""
        if not trainer.strategy.restore_checkpoint_after_setup:
            self._begin(trainer)

    def on_sanity_check_start(self, trainer: Any, _module: Any) -> None:
        """Begin the run, if it has not begun. The other hooks do the same."""
        self._begin(trainer)

    def on_train_start(self, trainer: Any, _module: Any) -> None:
        self._begin(trainer)

    def on_validation_start(self, trainer: Any, _module: Any) -> None:
        self._begin(trainer)

    def on_test_start(self, trainer: Any, _module: Any) -> None:
        self._begin(trainer)

    def on_save_checkpoint(self, trainer: Any, _module: Any, checkpoint: dict[str, Any]) -> None:
        """Keep the names of the runs."""
        checkpoint[KEY] = [logger.state_dict() for logger in _loggers_of(trainer)]

    def on_load_checkpoint(self, trainer: Any, _module: Any, checkpoint: dict[str, Any]) -> None:
        """Resume the runs that the checkpoint names, if training continues."""
        if trainer.state.fn != "fit":
            return
        kept = checkpoint.get(KEY) or []
        for logger, state in zip(_loggers_of(trainer), kept, strict=False):
            if isinstance(state, dict):
                logger.load_state_dict(state, trainer.ckpt_path)

    def _begin(self, trainer: Any) -> None:
        for logger in _loggers_of(trainer):
            serve(logger, trainer)
            logger.begin()

    def __reduce__(self) -> tuple[Any, ...]:
        return make_callback, (self.package,)


def _loggers_of(trainer: Any) -> list[TracksideLogger]:
    from trackside.integrations.lightning import TracksideLogger

    return [logger for logger in trainer.loggers if isinstance(logger, TracksideLogger)]
