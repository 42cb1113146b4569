"""What a sink and a destination are: small protocols, no base classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trackside.events import ConfigEvent, LifecycleEvent, MetricsSample
    from trackside.journal.format import ConfigRecord, MetricsRecord
    from trackside.lifecycle.verdict import Evidence, Verdict


@runtime_checkable
class Sink(Protocol):
    """An object in the training process that receives events from the bus.

    A sink has at least one of the methods below; the others may be missing. Each must be cheap: the
    training loop waits for it. What it raises is caught, logged once and counted. After ten errors in a row
    it is detached, unless it has an attribute ``stays_attached`` that is True.
    """

    def on_metrics(self, sample: MetricsSample) -> Any:
        """Receive the metrics of one step."""

    def on_config(self, event: ConfigEvent) -> Any:
        """Receive the configuration, or an addition to it."""

    def on_lifecycle(self, event: LifecycleEvent) -> Any:
        """Receive a start, a crash, a terminate signal or an end."""

    def close(self) -> Any:
        """Release what the sink holds; called once when the run finishes."""


@runtime_checkable
class Destination(Protocol):
    """An object in the shipper that delivers records somewhere, driven by a worker of its own.

    Every method may block, and may raise one of these from :mod:`trackside.errors`. ``RetryableError``: the
    call is made again with the same arguments, after a pause. ``RejectedError``: this batch is never accepted
    as it is. ``DestinationFailedError``, and ``RejectedError`` from ``open``: the worker ends. Any other
    exception counts as ``RetryableError``, and the user is told. A batch may arrive twice, after a crash
    between delivery and acknowledgement.
    """

    name: str
    """Names the cursor; letters, digits and dashes."""

    @property
    def batch_points(self) -> int:
        """How many points a batch should hold; asked anew before each. A plain attribute will do."""

    def open(self) -> None:
        """Connect, and create or resume whatever the records go into."""

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Deliver metrics, all or (when rejected) any part of them."""

    def write_config(self, record: ConfigRecord) -> None:
        """Deliver a configuration."""

    def idle(self) -> None:
        """Called between batches and at least every few seconds: heartbeats, uploads. Must be quick."""

    def settle(self, verdict: Verdict, evidence: Evidence, counts: dict[str, int]) -> None:
        """Everything before is delivered: say how the run ended. May be called again with a worse verdict."""

    def close(self) -> None:
        """Release connections."""


@runtime_checkable
class Resumable(Protocol):
    """What a destination has, too, if it can tell how far it got: a file that must not grow twice.

    A shipper that was killed between a delivery and its acknowledgement delivers again. ``restore`` gives
    the destination what it said at the last acknowledgement, and it undoes what it did after that.
    """

    def state(self) -> dict[str, Any]:
        """Anything that JSON has; asked after each delivery, which must be with the system by then."""

    def restore(self, state: dict[str, Any]) -> None:
        """Called before ``open``, with what ``state`` said last; not at the first start."""


@runtime_checkable
class Probing(Protocol):
    """What a destination behind a network has, too: a write that should work, to compare others with.

    Only with it can the shipper tell a record that a server never takes from a server that is down. Records
    of such a destination may arrive out of order, and its configuration after its metrics.
    """

    def probe(self, known: MetricsRecord | None) -> None:
        """Write a point the destination has taken before, or for None something else that changes nothing.

        Every call is a request of its own, and raises as ``write_metrics`` does.
        """


@runtime_checkable
class Proving(Protocol):
    """What a destination has, too, whose acknowledgement may come from somebody else: a proxy in between."""

    @property
    def needs_proof(self) -> bool:
        """Whether anything was acknowledged since the last call of :meth:`prove` that it has to look up."""

    def prove(self) -> None:
        """Look whether all that was acknowledged since the last call is there.

        Raises :class:`trackside.errors.UnprovenError` if it is not: all of it is delivered again. Called
        before a segment of the journal is deleted, before the run's end is told, and when the trainer waits.
        """


@runtime_checkable
class Answering(Protocol):
    """What a destination has, too, that makes several requests in one call.

    The shipper takes a call that is silent for long for one that hangs.
    """

    @property
    def answered_at(self) -> float:
        """When a request was last answered, by ``time.monotonic()``. Asked by another thread."""


@runtime_checkable
class Uploading(Protocol):
    """What a destination has, too, whose files may still be on their way once the end is told."""

    def finish_uploads(self) -> None:
        """Upload what waits; raise :class:`trackside.errors.RetryableError` when something still does."""


@runtime_checkable
class Durable(Protocol):
    """What a destination has, too, that writes to a disk of ours.

    There a power cut may take what was acknowledged, so the journal must be kept as long.
    """

    def sync(self) -> None:
        """Have everything on the disk for good; called before a segment of the journal is deleted."""


@runtime_checkable
class Renewable(Protocol):
    """What a destination has, too, if credentials may be part of its address.

    Environment variables need no such method: the shipper sets those that changed in the training process,
    then tries again.
    """

    def renew(self, tracking_uri: str | None) -> None:
        """Use ``tracking_uri`` from the next call on: the same address with other credentials.

        None: the environment has changed, the address has not. Called from another thread.
        """
