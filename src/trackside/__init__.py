"""A metrics sink for an event-bus logging pipeline that ends in MLflow.

Start a run with :func:`start`, log with :func:`log`, and the run ends with the program::

    import trackside

    with trackside.start("digits", config={"lr": 0.1}) as run:
        trackside.log({"loss": 0.5}, step=0)

Every exception of trackside is a :class:`TracksideError`. :func:`log` and :func:`emit` raise none.
``import trackside`` loads neither torch nor mlflow. Names are loaded when you first use them.
"""

from __future__ import annotations

import logging
from time import time_ns
from typing import TYPE_CHECKING, Any

from trackside.events import ArtifactEvent, ConfigEvent, LifecycleEvent, MetricsSample
from trackside.system import last_resort, raised_level

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Final

    from trackside.errors import (
        ArtifactError,
        CoercionError,
        ConfigurationError,
        DeliveryError,
        DestinationFailedError,
        GoneError,
        JournalError,
        RejectedError,
        RetryableError,
        RunActiveError,
        TrackingError,
        TracksideError,
        UnauthorisedError,
        UnprovenError,
    )
    from trackside.event_bus.bus import Bus
    from trackside.event_bus.bus import default_bus as bus
    from trackside.events import Event
    from trackside.journal.delivery_status import DeliveryStatus
    from trackside.session.current import current_run, finish
    from trackside.session.from_config import start_from_config
    from trackside.session.run import Counts, Run
    from trackside.session.start import start
    from trackside.watching.watch import Watch, unwatch, watch

    log_artifact: Final = bus.log_artifact
    log_artifacts: Final = bus.log_artifacts
    log_audio: Final = bus.log_audio
    log_checkpoint: Final = bus.log_checkpoint
    log_dataset: Final = bus.log_dataset
    log_dict: Final = bus.log_dict
    log_figure: Final = bus.log_figure
    log_histogram: Final = bus.log_histogram
    log_image: Final = bus.log_image
    log_model: Final = bus.log_model
    log_table: Final = bus.log_table
    log_text: Final = bus.log_text
    log_video: Final = bus.log_video

__version__ = "0.1.0"

__all__ = [
    "ArtifactError",
    "ArtifactEvent",
    "Bus",
    "CoercionError",
    "ConfigEvent",
    "ConfigurationError",
    "Counts",
    "DeliveryError",
    "DeliveryStatus",
    "DestinationFailedError",
    "GoneError",
    "JournalError",
    "LifecycleEvent",
    "MetricsSample",
    "RejectedError",
    "RetryableError",
    "Run",
    "RunActiveError",
    "TrackingError",
    "TracksideError",
    "UnauthorisedError",
    "UnprovenError",
    "Watch",
    "bus",
    "current_run",
    "emit",
    "finish",
    "log",
    "log_artifact",
    "log_artifacts",
    "log_audio",
    "log_checkpoint",
    "log_dataset",
    "log_dict",
    "log_figure",
    "log_histogram",
    "log_image",
    "log_model",
    "log_table",
    "log_text",
    "log_video",
    "start",
    "start_from_config",
    "unwatch",
    "watch",
]

last_resort.add_to(logging.getLogger("trackside"))
raised_level.keep_level(logging.getLogger("trackside"))

_LAZY = {
    **{name: ("trackside.errors", name) for name in __all__ if name.endswith("Error")},
    "Bus": ("trackside.event_bus.bus", "Bus"),
    "Counts": ("trackside.session.run", "Counts"),
    "DeliveryStatus": ("trackside.journal.delivery_status", "DeliveryStatus"),
    "Run": ("trackside.session.run", "Run"),
    "Watch": ("trackside.watching.watch", "Watch"),
    "bus": ("trackside.event_bus.bus", "default_bus"),
    "current_run": ("trackside.session.current", "current_run"),
    "finish": ("trackside.session.current", "finish"),
    **{name: ("trackside.event_bus.bus", f"default_bus.{name}") for name in __all__ if name[:4] == "log_"},
    "start": ("trackside.session.start", "start"),
    "start_from_config": ("trackside.session.from_config", "start_from_config"),
    "unwatch": ("trackside.watching.watch", "unwatch"),
    "watch": ("trackside.watching.watch", "watch"),
}


def emit(event: Event) -> None:
    """Send an event on the default bus. Never raises an ``Exception``."""
    (_bus or _default_bus()).emit(event)


def log(
    metrics: Mapping[str, Any],
    step: int | None = None,
    epoch: float | None = None,
    prefix: str | None = None,
) -> None:
    """Log the metrics of one step: sugar for ``emit(MetricsSample(step, epoch, metrics, prefix))``.

    Values are numbers, arrays, tensors or lists (their mean is logged), or nested dicts: ``{"eval": {"loss":
    1}}`` is logged as ``eval/loss``. Without ``step`` the step after the last is taken, with one warning.
    ``prefix="val"`` logs ``loss`` as ``val/loss``. Never raises an ``Exception``.
    """
    bus = _bus or _default_bus()
    quick_log = bus.quick_log
    if quick_log is None or not quick_log(metrics, step, epoch, prefix):
        # The time is given, not left to the default: calling a Python function from C costs more.
        bus.emit(MetricsSample(step, epoch, metrics, prefix, time_ns() // 1_000_000))


_bus: Bus | None = None


def _default_bus() -> Bus:
    """The default bus, imported on first use and remembered: an import statement costs as much as a log."""
    global _bus  # noqa: PLW0603 - a cache of one
    from trackside.event_bus.bus import default_bus

    _bus = default_bus
    return default_bus


def __getattr__(name: str) -> Any:
    try:
        module, attribute = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    from importlib import import_module
    from operator import attrgetter

    value = attrgetter(attribute)(import_module(module))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
