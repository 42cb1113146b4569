"""The records on the bus: frozen, slotted, made in a fraction of a microsecond.

They are :class:`msgspec.Struct` and not dataclasses. A frozen dataclass calls ``object.__setattr__`` once for
each field, and each training step makes one of these.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import datetime, timezone
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, cast, get_args

import msgspec

LifecycleKind: TypeAlias = Literal[
    "started",
    "terminating",
    "crashed",
    "thread_crashed",
    "task_crashed",
    "exit_cause",
    "exited",
    "finishing",
    "finished",
]
"""What happened to the process or the run.

* ``started``: a run began.
* ``terminating``: the process was asked to stop, by SIGTERM or a scheduler's notice.
* ``crashed``: an uncaught exception left the main thread.
* ``thread_crashed``: an uncaught exception left another thread.
* ``task_crashed``: an exception in an asyncio task was never read.
* ``exit_cause``: the exception that was being handled when the program called ``sys.exit``. Sent right before
  ``exited``.
* ``exited``: the interpreter is on its way out.
* ``finished``: the program said that the run is over.
* ``finishing``: the program said so while an exception was on its way, or during its exit. The end is not
  certain yet.
"""

FinalStatus: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]
"""A status that a run ends with, by MLflow's names (``mlflow/entities/run_status.py``)."""

RunStatus: TypeAlias = Literal["RUNNING", FinalStatus]
"""A run's status. MLflow's SCHEDULED is not used."""

FINAL: frozenset[str] = frozenset(get_args(FinalStatus))


def as_final(status: str | None) -> FinalStatus | None:
    """``status`` if it is a final status, else None."""
    return cast("FinalStatus", status) if status in FINAL else None


def checked_status(status: str) -> FinalStatus:
    """``status`` in capitals. Raises ``ValueError`` with the final statuses if it is not one of them."""
    found = as_final(str(status).upper())
    if found is None:
        raise ValueError(f"status {status!r} is not a final status. Use FINISHED, FAILED or KILLED")
    return found


def now_ms() -> int:
    """Wall-clock time in milliseconds since the epoch, MLflow's unit for timestamps."""
    return time.time_ns() // 1_000_000


class MetricsSample(msgspec.Struct, frozen=True, gc=False):
    """The metrics of one step.

    ``metrics`` maps names to anything :func:`trackside.coerce.to_float` reads (numbers, tensors, arrays,
    lists) or to further mappings, which are flattened: ``{"eval": {"loss": 1}}`` is delivered as
    ``eval/loss``. ``step`` is an int. A missing or unusable one is replaced by the step after the last. If
    you give ``epoch``, it is delivered as the metric ``epoch``. ``prefix="val"`` delivers ``loss`` as
    ``val/loss``. ``timestamp_ms`` is milliseconds since the Unix epoch, now by default.
    """

    step: Any
    epoch: Any = None
    metrics: Mapping[str, Any] = {}
    prefix: str | None = None
    timestamp_ms: int = msgspec.field(default_factory=now_ms)

    def to_dict(self) -> dict[str, Any]:
        """``step``, ``epoch``, ``timestamp`` (ISO 8601 UTC, milliseconds, ``Z``) and the metrics."""
        moment = datetime.fromtimestamp(self.timestamp_ms / 1000, tz=timezone.utc)
        stamp = moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {"step": self.step, "epoch": self.epoch, "timestamp": stamp, **self.metrics}


class MetricLink(msgspec.Struct, frozen=True, array_like=True):
    """What metrics were computed with or on: a logged model of MLflow's, a dataset, or both."""

    model_id: str | None = None
    dataset_name: str | None = None
    dataset_digest: str | None = None


class LinkedSample(MetricsSample, frozen=True):
    """A sample whose metrics belong to a logged model or a dataset. To sinks it is like any other sample."""

    link: MetricLink = MetricLink()

    def __post_init__(self) -> None:
        # No plain dict, so nothing that takes samples quickly takes this one without its link.
        msgspec.structs.force_setattr(self, "metrics", MappingProxyType(dict(self.metrics)))


class ConfigEvent(msgspec.Struct, frozen=True):
    """The run's configuration, or an addition to it: params and ``config.yaml`` in MLflow.

    ``config``: a mapping, dataclass, ``argparse.Namespace``, pydantic or OmegaConf object, nested as
    deep as you like. ``flatten_depth``: how many levels get keys of their own (``None``: all).
    """

    config: Any
    flatten_depth: int | None = 1
    timestamp_ms: int = msgspec.field(default_factory=now_ms)


class ParamsEvent(ConfigEvent, frozen=True):
    """Params that were logged one by one: to sinks a configuration, of which MLflow gets no artifact."""


class LifecycleEvent(msgspec.Struct, frozen=True):
    """Something happened to the process or the run that its final status depends on.

    The journal keeps it as a :class:`trackside.journal.format.LifecycleRecord`, which has the same fields.
    """

    kind: LifecycleKind
    status: FinalStatus | None = None
    """What the emitter thinks the run's status is now. ``finished`` needs one. A crash has one if the program
    expects that exception."""
    message: str | None = None
    """A text for the run's page."""
    signal: int | None = None
    """The number of the signal that asked the process to stop."""
    exit_code: int | None = None
    """What the process was told to exit with."""
    error_type: str | None = None
    """The exception's type."""
    traceback: str | None = None
    timestamp_ms: int = msgspec.field(default_factory=now_ms)


class RunEnd(msgspec.Struct, frozen=True, kw_only=True):
    """How the run ended, as a destination is told.

    ``final``: nothing can change it. Otherwise the training still runs, or may.
    """

    status: FinalStatus
    reason: str
    """Why, in a few words."""
    final: bool = True
    ended_ms: int = 0
    """When the training ended, in milliseconds since the epoch. 0 while it has not."""
    announced_ms: int = 0
    """The same, if the training process said so itself. 0 if it died without a word."""
    counts: Mapping[str, int] = {}
    """Points by what became of them: ``emitted``, ``shipped``, ``merged``, ``dropped``, ``rejected``. Records
    that could not be read are ``damaged``."""
    why_not_kept: tuple[str, ...] = ()
    """Why files, pictures and tables were not kept: the first few reasons, masked."""
    error_type: str | None = None
    """The type of the exception that explains the end."""
    error_message: str = ""
    traceback: str | None = None
    signals: tuple[str, ...] = ()
    """Names of the signals that ended it, or asked it to stop."""
    exit_code: int | None = None
    out_of_memory: bool = False
    """Whether the kernel's OOM killer ended it."""


class ArtifactEvent(msgspec.Struct, frozen=True, kw_only=True):
    """Something that is kept as files of the run. The kinds are in :mod:`trackside.artifact_events`."""

    timestamp_ms: int = msgspec.field(default_factory=now_ms)
    """Milliseconds since the Unix epoch."""


Event: TypeAlias = MetricsSample | ConfigEvent | LifecycleEvent | ArtifactEvent
"""Anything :meth:`trackside.event_bus.bus.Bus.emit` takes."""
