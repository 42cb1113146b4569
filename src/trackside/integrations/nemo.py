"""NeMo Automodel: the samples of its ``MetricLogger`` on trackside's bus.

Automodel's recipes write each sample to JSON lines and call MLflow, where your configuration has a section
``mlflow``. For that, ``MLFLOW_TRACKING_URI=journal+<address>`` is all you need. To have the samples go to
your sinks and destinations as well, or to a run that ``trackside.start()`` has made, call
:func:`forward_samples` before the recipe begins.

Invariants:

* A sample is passed on with its tensors unread, on the rank that writes it.
* A sample of a validation set has the set's name before its metrics, so that sets do not overwrite each
  other.
* The logger works as before, whatever happens here.
"""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING, Any

from trackside.event_bus.bus import Bus, default_bus
from trackside.events import MetricsSample
from trackside.integrations.missing import needs_extra
from trackside.integrations.warning import warn_once

with needs_extra("nemo"):
    from nemo_automodel.components.loggers.metric_logger import MetricLogger

if TYPE_CHECKING:
    from collections.abc import Callable

_TRAINING = frozenset({"training", "train"})


def forward_samples(
    bus: Bus | None = None, prefix: Callable[[str], str | None] | None = None
) -> Callable[[], None]:
    """Emit what every ``MetricLogger`` logs from now on, on ``bus`` or the default one.

    ``prefix``: a function from a logger's file to what goes before its metrics. By default it is the file's
    name without its ending, and nothing for ``training.jsonl``.

    Returns a function that ends it. Calling this again replaces the earlier call.
    """
    target, name = bus or default_bus, prefix or prefix_of
    log = getattr(MetricLogger.log, "_trackside_original", MetricLogger.log)

    @functools.wraps(log)
    def log_and_emit(self: Any, record: Any) -> None:
        try:
            metrics = dict(record.metrics)  # a copy: the logger replaces the tensors later
            target.emit(MetricsSample(record.step, record.epoch, metrics, name(self.filepath)))
        except Exception as error:
            warn_once(f"a sample of MetricLogger is not emitted: {type(error).__name__}: {error}")
        log(self, record)

    log_and_emit._trackside_original = log  # type: ignore[attr-defined]  # noqa: SLF001
    MetricLogger.log = log_and_emit

    def end() -> None:
        if MetricLogger.log is log_and_emit:
            MetricLogger.log = log

    return end


def prefix_of(filepath: str) -> str | None:
    """``validation_squad`` for ``.../validation_squad.jsonl``, and None for ``.../training.jsonl``."""
    stem = os.path.splitext(os.path.basename(filepath))[0]
    return None if stem in _TRAINING else stem
