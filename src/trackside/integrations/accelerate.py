"""Hugging Face Accelerate.

Pass the tracker, or name it once this module is imported::

    import trackside.integrations.accelerate

    accelerator = Accelerator(log_with="trackside")
    accelerator = Accelerator(log_with=TracksideTracker(experiment_name="digits"))

Invariants:

* The project's name is the experiment, unless ``MLFLOW_EXPERIMENT_NAME`` or an option names another one.
* ``end_training()`` ends the run. If it is not called, the run ends with the program. Neither hides an
  exception.
* Only the main process logs. A tracker that is made as an object also tells the run why another rank crashed:
  Accelerate makes one that is named on the main process alone.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from trackside.events import ConfigEvent
from trackside.integrations.missing import needs_extra
from trackside.integrations.training_run import TrainingRun
from trackside.rank import get_rank

with needs_extra("accelerate"):
    from accelerate import tracking
    from accelerate.tracking import GeneralTracker

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from trackside.session.options import StartOptions
    from trackside.session.run import Run

__all__ = ["TracksideTracker"]


class TracksideTracker(GeneralTracker):
    """Logs into a trackside run. ``options``: those of ``start()``."""

    name = "trackside"
    requires_logging_directory = False
    main_process_only = True

    def __init__(self, project_name: str | None = None, **options: Unpack[StartOptions]) -> None:
        super().__init__()
        if project_name is not None and not os.environ.get("MLFLOW_EXPERIMENT_NAME"):
            options.setdefault("experiment_name", project_name)
        self._options = options
        self._training = TrainingRun(options.get("bus"))
        if get_rank() != 0:
            self.start()  # a no-op run: Accelerate starts no tracker here, and a crash is to be told of

    @property
    def tracker(self) -> Run | None:
        """The run. None before ``init_trackers()``."""
        return self._training.run

    def start(self) -> None:
        """Begin the run. Accelerate never says how a training ended, so the program's end decides."""
        self._training.begin(**self._options)
        self._training.complete()

    def store_init_configuration(self, values: Mapping[str, Any]) -> None:
        """Log ``values`` as the run's configuration."""
        if self.tracker is not None:
            depth = self._options.get("flatten_depth", 1)
            self.tracker.emit(ConfigEvent(dict(values), depth))

    def log(self, values: Mapping[str, Any], step: int | None = None, **options: Any) -> None:
        """Log metrics. ``options``: ``epoch`` and ``prefix`` of :meth:`Run.log`, from ``log_kwargs``."""
        if self.tracker is not None:
            self.tracker.log(values, step=step, epoch=options.get("epoch"), prefix=options.get("prefix"))

    def finish(self) -> None:
        """End the run, if it was started here."""
        self._training.finish()


def _register() -> None:
    """Make the tracker known by its name, where Accelerate can (from 1.15 on)."""
    register = getattr(tracking, "register_tracker_class", None)
    if register is not None and TracksideTracker.name not in tracking.LOGGER_TYPE_TO_CLASS:
        register(TracksideTracker)


_register()
