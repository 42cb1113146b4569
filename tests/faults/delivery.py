"""A journal and a worker to the real MLflow destination, in this process, and reading back what arrived."""

from __future__ import annotations

import secrets
import time
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlflow.entities import Run, ViewType

from tests.faults.fake import QUICK, Rig
from trackside.destinations.context import DestinationContext
from trackside.destinations.mlflow.destination import MLflowDestination
from trackside.destinations.mlflow.tags import counts_in
from trackside.journal.format import ConfigRecord
from trackside.journal.meta import Meta, Target
from trackside.journal.outbox import Outbox
from trackside.journal.owner import this_process
from trackside.journal.progress import Progress
from trackside.lifecycle.verdict import decide
from trackside.redaction.forms import mask_address

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mlflow.tracking import MlflowClient

    from trackside.shipper.retry import Policy
    from trackside.shipper.worker import DeliveryWorker


def new_meta(uri: str, **target: Any) -> Meta:
    """Meta of a run in an experiment of its own, with ``target``'s fields."""
    if not {"experiment_name", "experiment_id"} & set(target):
        target["experiment_name"] = f"faults-{secrets.token_hex(6)}"
    return Meta(
        journal_id=secrets.token_hex(16),
        owner=this_process(),
        target=Target(tracking_uri=mask_address(uri), **target),
        rank=0,
        working_directory="/",
        started_ms=time.time_ns() // 1_000_000,
    )


class Delivery(Rig):
    """As :class:`Rig`, but with a :class:`MLflowDestination` to ``uri``."""

    destination: MLflowDestination  # type: ignore[assignment]

    def __init__(self, root: Path, uri: str, meta: Meta | None = None, **target: Any) -> None:
        self.uri = uri
        self.meta = meta or new_meta(uri, **target)
        self.evidence_policy = QUICK
        super().__init__(root)

    def make_destination(self, destination: Any = None) -> None:
        """As a new shipper would make it."""
        self.progress = Progress(self.journal)
        context = DestinationContext(
            "mlflow",
            self.meta,
            self.journal.path,
            notice=self.progress.notice,
            restarted=self.progress.restarted,
        )
        self.destination = MLflowDestination(
            context, self.uri, publish=self.progress.update, outbox=Outbox(self.journal.path)
        )

    def restart(self, policy: Policy = QUICK) -> DeliveryWorker:
        """What a new shipper would make, after the worker before was stopped."""
        self.worker.calls.stop()
        self.join(60)
        self.make_destination()
        self.worker = self.new_worker(policy)
        return self.worker

    def configure(self, params: dict[str, str], document: dict[str, Any] | None = None) -> None:
        """Append a configuration."""
        self.writer.append(ConfigRecord(0, 1, params, dict(params) if document is None else document))

    def finish(self) -> None:
        """As before, with time for a server."""
        from trackside.lifecycle.evidence import Evidence

        self.evidence = Evidence(finished="FINISHED")
        assert decide(self.evidence).final
        self.worker.calls.wake.set()
        self.join(90)

    @property
    def run_id(self) -> str:
        """The run's id, once it is made."""
        run = self.progress.state.run
        assert run is not None
        return run.run_id

    @property
    def notices(self) -> str:
        """All that the user would be told."""
        return "\n".join(self.progress.state.notices)


@contextmanager
def delivery(root: Path, uri: str, **more: Any) -> Iterator[Delivery]:
    """A :class:`Delivery` whose worker is stopped at the end, if it still runs."""
    made = Delivery(root, uri, **more)
    try:
        yield made
    finally:
        made.worker.calls.stop()
        if made.worker.ident is not None:
            made.worker.join(60)
        made.writer.close()


def steps_of(client: MlflowClient, run_id: str, key: str = "loss") -> Counter[int]:
    """How often each step of a metric is in the store."""
    return Counter(metric.step for metric in client.get_metric_history(run_id, key))


def once_each(count: int) -> Counter[int]:
    """What :func:`steps_of` should be for steps 0 to ``count``."""
    return Counter(range(count))


def runs_in(client: MlflowClient, experiment: str | None, view: int = ViewType.ACTIVE_ONLY) -> list[Run]:
    """The runs of an experiment."""
    found = client.get_experiment_by_name(experiment or "")
    return list(client.search_runs([found.experiment_id], run_view_type=view)) if found else []


def check(client: MlflowClient, name: str, points: int, status: str = "FINISHED") -> str:
    """One run, its points each once, the counts in its tags, its status. The run's id."""
    (run,) = runs_in(client, name, ViewType.ALL)
    run_id = str(run.info.run_id)
    assert steps_of(client, run_id) == once_each(points)
    assert steps_of(client, run_id, "lr") == once_each(points)
    tags = run.data.tags
    assert run.info.status == status
    assert counts_in(tags) == {"emitted": 2 * points, "shipped": 2 * points}
    return run_id
