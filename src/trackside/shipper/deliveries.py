"""What one worker delivers with: metrics, texts and artifacts, each by rules of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from trackside.shipper.artifacts import ArtifactDelivery
from trackside.shipper.dead_letters import RejectedFile
from trackside.shipper.search import delivered_before
from trackside.shipper.sending import MetricsDelivery, comparison_with
from trackside.shipper.texts import TextsDelivery, first_waiting, waiting_for
from trackside.shipper.unkept import unkept_artifacts

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.journal.cursor import Cursor
    from trackside.journal.directory import JournalDirectory
    from trackside.protocols import Destination
    from trackside.shipper.sending import Calls


class Deliveries(NamedTuple):
    """The deliveries to one destination."""

    metrics: MetricsDelivery
    texts: TextsDelivery
    artifacts: ArtifactDelivery


def deliveries_to(
    destination: Destination,
    journal: JournalDirectory,
    cursor: Cursor,
    calls: Calls,
    *,
    notice: Callable[[str], None],
    is_transformed: bool,
) -> Deliveries:
    """Those that continue from ``cursor``. ``is_transformed``: points are not delivered as logged."""
    comparison = comparison_with(destination, calls)
    if comparison is not None and not is_transformed and cursor.shipped:
        comparison.remember(delivered_before(journal, cursor.position))
    waiting = waiting_for(journal.path, destination.name)
    open_from = first_waiting(waiting, cursor.position.seq)
    rejects = RejectedFile(journal.rejected, destination.name, after_seq=open_from)
    artifacts = ArtifactDelivery(
        destination,
        journal,
        rejects=RejectedFile(journal.rejected, destination.name, after_seq=0),
        notice=notice,
        policy=calls.policy,
        uniform=calls.uniform,
    )
    artifacts.take(unkept_artifacts(journal, cursor))
    return Deliveries(
        MetricsDelivery(destination, calls, rejects, comparison),
        TextsDelivery(destination, calls, rejects, comparison, waiting),
        artifacts,
    )
