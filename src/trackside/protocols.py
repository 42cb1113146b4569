"""What a sink and a destination are.

A sink needs one method, so it is a protocol. A destination has a dozen, and nearly all have a default, so it
is a base class. Yours overrides what it needs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeAlias, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trackside.destinations.context import DestinationContext
    from trackside.events import (
        ArtifactEvent,
        ConfigEvent,
        FinalStatus,
        LifecycleEvent,
        MetricsSample,
        RunEnd,
    )
    from trackside.journal.format import ArtifactRecord, ConfigRecord, MetricsRecord, ParamsRecord, TagsRecord


@runtime_checkable
class OnMetrics(Protocol):
    """A sink that receives metrics."""

    def on_metrics(self, sample: MetricsSample, /) -> Any:
        """Receive the metrics of one step."""


@runtime_checkable
class OnConfig(Protocol):
    """A sink that receives configurations."""

    def on_config(self, event: ConfigEvent, /) -> Any:
        """Receive the configuration, or an addition to it."""


@runtime_checkable
class OnLifecycle(Protocol):
    """A sink that receives lifecycle events."""

    def on_lifecycle(self, event: LifecycleEvent, /) -> Any:
        """Receive a start, a crash, a terminate signal or an end."""


@runtime_checkable
class OnArtifact(Protocol):
    """A sink that receives files, pictures, tables, checkpoints and models."""

    def on_artifact(self, event: ArtifactEvent, /) -> Any:
        """Receive one of them, by one of the classes in :mod:`trackside.artifact_events`."""


Sink: TypeAlias = OnMetrics | OnConfig | OnLifecycle | OnArtifact
"""An object in the training process that receives events from the bus, by at least one of four methods.

Each method must be cheap, because the training loop waits for it. What it raises is caught, logged once and
counted. After ten errors in a row the bus detaches the sink, unless it has an attribute ``stays_attached``
that is True. If it has a method ``close()``, that is called once, when the run finishes.

A union and not one protocol: a class with ``on_metrics`` alone is a sink, for type checkers as for
``isinstance(x, Sink)``. Write such a class without a base class.
"""

SinkFunction: TypeAlias = "Callable[[MetricsSample], Any]"
"""A function that receives the metrics of one step."""

AnySink: TypeAlias = "OnMetrics | OnConfig | OnLifecycle | OnArtifact | Callable[[MetricsSample], Any]"
"""What ``bus.attach()`` takes: a :data:`Sink` or a :data:`SinkFunction`."""


class Destination(ABC):
    """An object in the shipper that delivers records somewhere, driven by a delivery worker of its own.

    Override ``write_metrics``, and whatever else yours needs::

        class Lines(Destination):
            def write_metrics(self, batch):
                with open(self.context.path("{journal}.txt"), "a") as file:
                    for record in batch:
                        print(record.step, record.named_values(), file=file)

    Every method may block, and may raise one of these from :mod:`trackside.errors`. ``RetryableError``: the
    call is made again with the same arguments, after a pause. ``RejectedError``: this batch is never accepted
    as it is. ``DestinationFailedError``, and ``RejectedError`` from ``open``: the worker ends. Any other
    exception counts as ``RetryableError``, and the user is told.

    Delivery is at least once. A batch may arrive twice, after a crash between delivery and acknowledgement.
    ``state`` and ``restore`` let you undo the first one.
    """

    name: str
    """Names the cursor. Letters, digits and dashes."""

    context: DestinationContext
    """The run it delivers, and where its files go."""

    batch_points: int = 10_000
    """How many points a batch should hold. The worker reads it before each batch."""

    answered_at: float = 0.0
    """When a request was last answered, by ``time.monotonic()``. Read by another thread.

    The shipper reports a call that is silent for 35 s as failing. Set this if yours makes several requests.
    """

    artifact_bytes: int = 0
    """Bytes of the current artifact that went out. Read by another thread, to show the progress.

    Set to 0 before each ``write_artifact``. Count up while yours goes out, if you can.
    """

    status: FinalStatus | None = None
    """The run's end as the trainer hears of it before ``write_end`` has returned. Read by another thread.

    Set it if ``write_end`` waits for something that the trainer need not wait for.
    """

    writes_artifacts_beside: ClassVar[bool] = False
    """Whether ``write_artifact`` is called from a thread of its own, beside all other calls.

    False: it is called from the worker's thread, in the order of the journal, so that a large file holds up
    what comes after it.
    """

    state_version: int = 1
    """The version of what ``state`` returns. ``restore`` never gets a state of another version."""

    keep_state: Callable[[], None] = staticmethod(lambda: None)
    """Keep ``state`` now, and not only after the delivery. Set by the worker, for the worker's thread.

    Call it before a request that a restarted shipper has to know of. By then ``state`` must not count
    anything as delivered that was not acknowledged.
    """

    def __init__(self, context: DestinationContext) -> None:
        self.name = context.name
        self.context = context

    def open(self) -> None:
        """Connect, and create or resume whatever the records go into. Import your libraries here."""

    @abstractmethod
    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Deliver metrics: all of them or, if you raise, any part of them."""

    def write_config(self, record: ConfigRecord) -> None:
        """Deliver a configuration. Ignored by default."""

    def write_params(self, record: ParamsRecord) -> None:
        """Deliver params that were logged one by one. By default they are a configuration."""
        self.write_config(record.as_config())

    def write_tags(self, record: TagsRecord) -> None:
        """Deliver tags, of which the last value counts. Ignored by default."""

    def write_artifact(self, record: ArtifactRecord, content: Path | None) -> None:
        """Deliver a file, a folder, a picture, a table. Ignored by default.

        ``content`` is where what was logged waits on this machine: a file, or the folder for a folder. It is
        yours to read until you return. None where the record says it all, as for a dataset.
        """

    def give_up_artifact(self, record: ArtifactRecord) -> None:
        """Close what ``write_artifact`` has begun for ``record``. Ignored by default.

        It is not delivered: it was rejected, its file can't be read, or a newer one has come in its place
        after a try. It is called where ``write_artifact`` is, also for records of which nothing was begun.
        """

    def write_postponed(self, *, everything: bool) -> float | None:  # noqa: ARG002 - for those that override it
        """Deliver what ``write_artifact`` has put off, a table that grows: what is due, or everything.

        Returns the seconds until more is due, and None if nothing is left. It is called where
        ``write_artifact`` is, when no file waits. ``everything`` is True for a flush, and at the end. Raise
        :class:`trackside.errors.RejectedError` once for what is never accepted, and don't try it again.
        """
        return None

    def idle(self) -> None:
        """Do what is due: heartbeats, uploads. Called between batches, every few seconds. Be quick."""

    def write_end(self, end: RunEnd) -> None:
        """Deliver how the run ended. Everything before it is delivered.

        Called again if the status gets worse, and with ``end.final`` once nothing can change it.
        """

    def finish_uploads(self) -> None:
        """Upload files that wait. Called after the final ``write_end``.

        Raise :class:`trackside.errors.RetryableError` while one still waits.
        """

    def close(self) -> None:
        """Close connections. May be called twice."""

    def state(self) -> dict[str, Any] | None:
        """What ``restore`` needs, as JSON. Read after each delivery and kept with the cursor, in one piece.

        What it counts as delivered must be with the operating system by then.
        """
        return None

    def restore(self, state: dict[str, Any]) -> None:
        """Return to ``state``, the last one that was acknowledged: undo what came after it.

        Called before ``open``, unless no state was kept yet.
        """

    def sync(self) -> None:
        """Make everything survive a power cut. Called before a segment of the journal is deleted."""

    @property
    def needs_proof(self) -> bool:
        """Whether anything was acknowledged since the last :meth:`prove` that it has to look up."""
        return False

    def prove(self) -> None:
        """Look up whether everything that was acknowledged since the last call is there.

        Override it if a proxy may acknowledge in the server's place. Raise
        :class:`trackside.errors.UnprovenError` if something is missing: all of it is delivered again. Called
        before a segment of the journal is deleted, before the end, and when the trainer flushes.
        """

    def renew(self, tracking_uri: str | None) -> None:
        """Use ``tracking_uri`` from the next call on: the same address with other credentials.

        ``None``: the environment has changed, and the address has not. Called from another thread.
        """


@runtime_checkable
class Probing(Protocol):
    """A destination with a write that should work, to compare others with.

    The shipper needs it to tell a record that a server never accepts from a server that is down. Having it
    changes the order of delivery: records may arrive out of order, and a configuration after metrics.
    """

    def probe(self, known: MetricsRecord | None) -> None:
        """Write a point the destination has accepted before, or for None something that changes nothing.

        Every call is a request of its own, and raises as ``write_metrics`` does.
        """
