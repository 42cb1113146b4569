"""Delivering to MLflow: what the shipper calls, each call handed on to the part that does it.

Metrics go to :mod:`~trackside.destinations.mlflow.metrics`, configurations to
:mod:`~trackside.destinations.mlflow.params`, the run's end to :mod:`~trackside.destinations.mlflow.ending`.
All of them make their requests by one :class:`~trackside.destinations.mlflow.connection.Connection`.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, ClassVar

from trackside.destinations.mlflow.artifacts.run_artifacts import ArtifactRun
from trackside.destinations.mlflow.artifacts.tables import Tables
from trackside.destinations.mlflow.artifacts.writer import give_up_artifact, write_artifact
from trackside.destinations.mlflow.attempts import TRACEBACK
from trackside.destinations.mlflow.begun_uploads import BegunUploads
from trackside.destinations.mlflow.changed_params import ChangedParams
from trackside.destinations.mlflow.claim import RunClaim
from trackside.destinations.mlflow.connection import Connection
from trackside.destinations.mlflow.ending import EndWriter
from trackside.destinations.mlflow.metrics import MetricsSender
from trackside.destinations.mlflow.opening import RunOpener
from trackside.destinations.mlflow.params import ConfigWriter, artifact_name
from trackside.destinations.mlflow.record import RunRecord
from trackside.destinations.mlflow.resume import RedoneSteps, last_steps
from trackside.destinations.mlflow.system_metrics import SystemMetricsSender
from trackside.destinations.mlflow.texts import TextWriter
from trackside.destinations.mlflow.upload import RunArtifacts, Uploader
from trackside.errors import RetryableError, UnprovenError
from trackside.events import as_final
from trackside.protocols import Destination

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from trackside.destinations.context import DestinationContext
    from trackside.destinations.mlflow.opening import Earlier
    from trackside.events import FinalStatus, RunEnd
    from trackside.journal.format import (
        ArtifactRecord,
        ConfigRecord,
        MetricsRecord,
        ParamsRecord,
        TagsRecord,
    )
    from trackside.journal.outbox import Outbox

logger = logging.getLogger("trackside.destinations")

LAST_UPLOAD_SECONDS = 5.0
LATE_SECONDS = 10.0
"""What must import MLflow first, which takes seconds, waits for the run's first points, or so long."""


def _publish_nothing(**changes: object) -> None:
    """Publish nothing, because the trainer asks for the run's own destination only."""


class MLflowDestination(Destination):
    """A run in MLflow. Made in the shipper, used by one worker."""

    writes_artifacts_beside = True

    keeps_links: ClassVar[bool] = True
    """Whether the training's logged models and datasets are in this store."""

    def __init__(
        self,
        context: DestinationContext,
        tracking_uri: str,
        *,
        publish: Callable[..., object] = _publish_nothing,
        outbox: Outbox,
        sample_load_every: float | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        super().__init__(context)
        self._meta = meta = context.meta
        self._outbox = outbox
        self._notice = notice = context.notice
        self._record = record = RunRecord(
            meta.journal_id,
            save=lambda: self.keep_state(),  # noqa: PLW0108 - the worker sets it later
            publish=publish,
            notice=notice,
        )
        self._connection = Connection(meta, tracking_uri, record=record, outbox=outbox)
        self._claim = RunClaim(meta, self._connection, record=record, outbox=outbox)
        self._opener = RunOpener(context, self._connection, self._claim, record=record, earlier=earlier)
        self._metrics = MetricsSender(self._connection, notice=notice, keeps_links=self.keeps_links)
        self._files_connection = Connection(meta, tracking_uri, record=record, outbox=outbox)
        self._tables = Tables(
            context.journal / f"tables-for-{context.name}", name_for=self._claim.artifact_name
        )
        self._files = ArtifactRun(
            self._files_connection,
            context.journal / f"made-for-{context.name}",
            tables=self._tables,
            uploads=BegunUploads(context.journal / f"begun-for-{context.name}"),
            notice=notice,
            on_sent=self._note_sent,
        )
        self._changed = ChangedParams(self._connection, self._claim, notice=notice)
        self._texts = TextWriter(self._connection, self._changed)
        self._redone: RedoneSteps | None = None
        self._config: ConfigWriter | None = None
        self._load = SystemMetricsSender(
            self._connection, sample_load_every, valid=self._metrics.valid, notice=notice
        )
        self._uploader = Uploader(
            outbox,
            RunArtifacts(self._connection).upload,
            notice,
            tell=lambda error: publish(artifacts_error=error),
        )
        self._opened_at = 0.0
        self._end = EndWriter(meta, self._connection, self._claim, record=record)

    @property
    def batch_points(self) -> int:  # type: ignore[override] # read only: it follows the server's pace
        """How many points a batch should hold now."""
        return self._metrics.batch_points

    @property
    def answered_at(self) -> float:  # type: ignore[override] # read only: the connection knows it
        """When MLflow last answered, or failed to."""
        return self._connection.answered_at

    @property
    def status(self) -> FinalStatus | None:  # type: ignore[override] # read only: it is kept with the cursor
        """The status that MLflow was told last, or that waits for a word of the run's owner."""
        return as_final(self._record.state.status)

    def state(self) -> dict[str, Any]:
        """What is known of the run."""
        return self._record.to_dict()

    def restore(self, state: dict[str, Any]) -> None:
        """Continue with the run that an earlier shipper has opened."""
        self._record.restore(state)
        self._record.publish()

    def open(self) -> None:
        """Connect. Create or resume the run, once the attempts before this one are delivered."""
        self._connection.take_renewed()
        created = False
        if self._record.state.run is None:
            resumed = self._opener.open()
            created = self._opener.created
            if resumed is not None and resumed.claimed and not self._meta.target.adopted:
                self._redone = RedoneSteps(
                    last_steps(resumed.run), run_id=self._connection.run_id, notice=self._notice
                )
        self._connection.open()
        self._opened_at = time.monotonic()
        self._claim.begin(created=created)
        self._sample_load()

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Send all points of ``batch``."""
        self._connection.take_renewed()
        if self._redone is not None:
            self._redone.check(batch, self._metrics.valid)
        self._metrics.send(batch)

    @property
    def needs_proof(self) -> bool:
        """Whether a server has acknowledged points that were not looked up yet."""
        return self._metrics.needs_proof

    def prove(self) -> None:
        """Look in the run for the last point of each metric.

        Raises :class:`UnprovenError` if one is not there.
        """
        try:
            self._metrics.prove()
        except UnprovenError as error:
            self._notice(
                f"MLflow at {self._meta.target.tracking_uri}: {error}. They are sent again. Look for a proxy "
                "in between that answers in MLflow's place"
            )
            raise

    def write_config(self, record: ConfigRecord) -> None:
        """Log params that are new, keep those that changed, and the whole document as an artifact."""
        self._connection.take_renewed()
        if self._config is None:
            run = self._record.state.run
            resumed = run is not None and run.resumed
            name = artifact_name(resumed=resumed, started_ms=self._meta.started_ms)
            self._config = ConfigWriter(
                self._connection,
                self._changed,
                self._outbox,
                name=self._claim.artifact_name(name),
                notice=self._notice,
                only_if_new=resumed,
            )
        self._config.write(record)

    def write_params(self, record: ParamsRecord) -> None:
        """Log params as MLflow's client does. Those that changed are kept."""
        self._connection.take_renewed()
        self._texts.write_params(record)

    def write_tags(self, record: TagsRecord) -> None:
        """Set tags as MLflow's client does."""
        self._connection.take_renewed()
        self._texts.write_tags(record)

    def write_artifact(self, record: ArtifactRecord, content: Path | None) -> None:
        """Upload a file, on a connection of its own: other threads make the other calls meanwhile."""
        self._files_connection.take_renewed()
        self._files_connection.open()
        write_artifact(self._files, record, content)

    def give_up_artifact(self, record: ArtifactRecord) -> None:
        """Say that a model has failed which was begun and does not come."""
        self._files_connection.take_renewed()
        self._files_connection.open()
        give_up_artifact(self._files, record)

    def write_postponed(self, *, everything: bool) -> float | None:
        """Upload the tables that are due, or everything that is new in them."""
        self._files_connection.take_renewed()
        self._files_connection.open()
        return self._tables.upload(self._files, everything=everything)

    def sync(self) -> None:
        """Have tables that wait to be uploaded survive a power cut."""
        self._tables.sync()

    def idle(self) -> None:
        """Heartbeat, load and uploads, each when it is due."""
        self._connection.take_renewed()
        self._claim.keep_up()
        if self._may_upload():
            self._upload()
        self._sample_load()
        self._load.send()

    def probe(self, known: MetricsRecord | None) -> None:
        """Write ``known`` again or, without it, the owner's sign of life, by the same request as metrics."""
        if known is not None:
            self._metrics.resend(known)
        else:
            self._claim.probe()

    def write_end(self, end: RunEnd) -> None:
        """Set the tags that say why, then the status, unless a newer attempt has taken the run over."""
        self._connection.take_renewed()
        self._end.try_to("system metrics", lambda: self._load.send(until_ms=end.ended_ms or None))
        ours = self._claim.owns_end(end)
        if end.traceback:
            self._keep_traceback(end.traceback)
        if ours and self._end.write(end):
            self._opener.delete_twins()
        else:
            logger.info("run %s has another owner: its status is left alone", self._connection.run_id)
        self._record.update(status=end.status)
        self._upload()

    def finish_uploads(self) -> None:
        """Upload what waits, for some seconds. Raises :class:`RetryableError` when something still does."""
        self._upload()
        if not self._uploader.finish(LAST_UPLOAD_SECONDS):
            names = ", ".join(path.name for path in self._outbox.pending())
            reason = self._uploader.error or "the artifact store has not answered yet"
            raise RetryableError(f"waiting to be uploaded: {names} ({reason})")

    def renew(self, tracking_uri: str | None) -> None:
        """Use ``tracking_uri`` from the next call on. MLflow reads the variables at each request."""
        self._connection.renew(tracking_uri)
        self._files_connection.renew(tracking_uri)

    def close(self) -> None:
        """Stop sampling. Nothing is held open."""
        self._load.stop()

    def _note_sent(self, size: int) -> None:
        self.artifact_bytes += size

    def _sample_load(self) -> None:
        if self._claim.held and not (self._connection.client.is_light and self._is_early()):
            self._load.start()

    def _keep_traceback(self, text: str) -> None:
        try:
            self._outbox.put(self._claim.artifact_name(TRACEBACK), text)
        except OSError as error:  # the crash may be due to a full disk, and the status matters more
            self._notice(f"the traceback could not be kept to be uploaded: {error}")

    def _may_upload(self) -> bool:
        run = self._record.state.run
        if run is None or not self._connection.needs_mlflow_to_upload(run.artifact_uri):
            return True
        return not self._is_early()

    def _is_early(self) -> bool:
        return not self._metrics.has_sent and time.monotonic() - self._opened_at < LATE_SECONDS

    def _upload(self) -> None:
        if self._config is not None:
            self._config.keep_document()
        self._uploader.kick()
