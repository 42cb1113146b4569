"""Delivering to MLflow: metrics in batches, params apart from them, tags, artifacts and the status.

One of the files that import mlflow. Limits, with their source: ``mlflow/utils/validation.py``.

MLflow's SQL stores key a metric by (run, key, timestamp, step, value, is_nan), so a batch that is sent
twice is stored once. ``log_batch`` writes params before metrics and fails as a whole on a changed param;
so the two never travel together.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections import Counter
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from trackside.bulk_store.uri import can_be_bulk
from trackside.destinations.answer_deadline import bound_answers
from trackside.destinations.answer_size import limit_answers
from trackside.destinations.mlflow.address import (
    alone_with,
    check_address,
    database_file,
    probe_database,
    require_path,
)
from trackside.destinations.mlflow.artifacts import RunArtifacts
from trackside.destinations.mlflow.attempts import ATTEMPTS_FILE, TRACEBACK, turn_page, upload_attempts
from trackside.destinations.mlflow.chunks import chunks
from trackside.destinations.mlflow.credentials import guard_requests
from trackside.destinations.mlflow.errors import translate, translate_opening
from trackside.destinations.mlflow.metrics import MAX_METRICS_PER_BATCH, MetricsSender
from trackside.destinations.mlflow.owner import OWNER_TAG, Ownership, describe_owner
from trackside.destinations.mlflow.params import ConfigWriter, artifact_name
from trackside.destinations.mlflow.redone import RedoneSteps, last_steps
from trackside.destinations.mlflow.run import Found, RunOpener
from trackside.destinations.mlflow.run_id_file import is_newer, write_run_id_file
from trackside.destinations.mlflow.settings import REQUEST_TIMEOUT, take_over
from trackside.destinations.mlflow.status import StatusWriter
from trackside.destinations.mlflow.system_metrics import SystemMetrics
from trackside.destinations.mlflow.tags import (
    DESCRIPTION_TAG,
    HEARTBEAT_TAG,
    describe_end,
    end_tags,
    summary_tags,
)
from trackside.destinations.mlflow.upload import Uploader
from trackside.errors import (
    DeliveryError,
    DestinationFailedError,
    GoneError,
    RejectedError,
    RetryableError,
    UnauthorisedError,
    UnprovenError,
)
from trackside.events import now_ms
from trackside.journal.family import ParentUnknownError, parent_run_id
from trackside.journal.opening import MAX_TEXT, read_file
from trackside.journal.owner import is_alive
from trackside.settings import read_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trackside.journal.format import ConfigRecord, MetricsRecord
    from trackside.journal.meta import Meta, RunInfo
    from trackside.journal.outbox import Outbox
    from trackside.journal.progress import Progress
    from trackside.lifecycle.verdict import Evidence, Verdict

logger = logging.getLogger(__name__)

LOAD_SAMPLES = 50
"""Sent at a time: some ten numbers each, more with GPUs."""

HEARTBEAT_SECONDS = 30.0
OWNER_LOOK_SECONDS = 15.0
"""Between two looks at the owner of the run, once this attempt, a secondary writer, has ended."""

LAST_UPLOAD_SECONDS = 5.0
END_TRIES = 5
"""Failures after which the status is set without what fails, if the server takes other writes."""

_uploading = threading.Lock()


class Earlier(Protocol):
    """What has to be delivered before this run (:class:`trackside.shipper.earlier.EarlierAttempts`)."""

    def check(self, probe: Callable[[], object]) -> None:
        """Raise :class:`RetryableError` while an earlier attempt is waited for."""

    def check_parent(self, probe: Callable[[], object]) -> str:
        """Raise while the parent is waited for; else why it is not."""


def preload(tracking_uri: str) -> None:
    """Import what a destination at ``tracking_uri`` will need, and nothing more: no store, no connection."""
    import mlflow.tracking

    if can_be_bulk(tracking_uri):
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401


class MLflowDestination:
    """A run in MLflow. Made in the shipper, used by one worker."""

    name = "mlflow"

    def __init__(
        self,
        meta: Meta,
        tracking_uri: str,
        *,
        progress: Progress,
        outbox: Outbox,
        sample_load_every: float | None = None,
        earlier: Earlier | None = None,
    ) -> None:
        self._meta = meta
        self._earlier = earlier
        self._tracking_uri = tracking_uri
        self._renewed_uri: str | None = None
        self._database = database_file(tracking_uri)
        self._progress = progress
        self._outbox = outbox
        self._client: Any = None
        self._metric: Callable[..., Any] = dict
        self._next_heartbeat = 0.0
        self._config: ConfigWriter | None = None
        self._uploader = Uploader(outbox, self._upload, progress.notice, tell=self._tell_of_artifacts)
        self._end_failures: Counter[str] = Counter()
        self._created_blindly = False
        self._metrics = MetricsSender(
            tracking_uri, call=self._call, tell=self._tell, notice=progress.notice, patience=REQUEST_TIMEOUT
        )
        self._sample_load_every = sample_load_every
        self._load: SystemMetrics | None = None
        self._ownership = Ownership(meta)
        self._status = StatusWriter(meta, read=self._get_run, write=self._write_status)
        self._redone: RedoneSteps | None = None
        self.answered_at = 0.0
        """When MLflow last answered, or said that it can't."""

    @property
    def batch_points(self) -> int:
        """How many points it is best given at once, as things are."""
        return self._metrics.batch_points

    def open(self) -> None:
        """Connect; create the run, or resume it, once the attempts before this one are delivered."""
        self._take_renewed()
        try:
            if self._earlier is not None and self._progress.state.run is None:
                self._earlier.check(self._ask)
            self._meta = self._with_parent()
            if self._client is None:
                self._client = self._call(self._connect)
            if self._progress.state.run is None:
                self._open_run()
            self._ownership.begin(self._get_run(), self._progress.state.ownership)
            self._note_standing()
        except UnauthorisedError as error:
            if not self._start_waits():
                raise
            names = "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            msg = f"the credentials are refused ({error}): check {names}"
            raise RejectedError(msg) from error
        self._heartbeat()
        self._start_sampling()

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Send all points of ``batch``."""
        self._take_renewed()
        if self._redone is not None:
            self._redone.check(batch, self._metrics.valid)
        self._metrics.send(batch)

    @property
    def needs_proof(self) -> bool:
        """Whether a server has acknowledged points that were not looked up yet."""
        return bool(self._metrics.last)

    def prove(self) -> None:
        """Look in the run for the last point of each metric; raise :class:`UnprovenError` where it is not."""
        last = self._metrics.last
        missing = last.missing_in(self._get_run()) if last else []
        last.forget()
        if missing:
            msg = f"points were acknowledged, and the run does not show them: {', '.join(missing[:5])}"
            self._progress.notice(
                f"MLflow at {self._meta.target.tracking_uri}: {msg}. They are sent again. Look for a proxy "
                "in between that answers in MLflow's place"
            )
            raise UnprovenError(msg)

    def write_config(self, record: ConfigRecord) -> None:
        """Log params that are new, keep those that changed, and the whole document as an artifact."""
        self._take_renewed()
        if self._config is None:
            run = self._progress.state.run
            resumed = run is not None and run.resumed
            name = artifact_name(resumed=resumed, started_ms=self._meta.started_ms)
            if not self._ownership.held:
                name = self._beside_owners(name)
            self._config = ConfigWriter(
                self, self._outbox, name=name, notice=self._progress.notice, only_if_new=resumed
            )
        self._config.write(record)

    def known_params(self) -> dict[str, str]:
        """What the run has (for :class:`ConfigWriter`)."""
        return dict(self._tell(self._client.get_run).data.params)

    def log_params(self, params: dict[str, str]) -> None:
        """Set params the run does not have yet (for :class:`ConfigWriter`)."""
        self._tell(self._client.log_batch, params=[self._param(*item) for item in params.items()])

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the run (for :class:`ConfigWriter`); a secondary writer leaves the owner's alone."""
        if self._ownership.held:
            self._tell(self._client.set_tag, key, value)

    def idle(self) -> None:
        """Heartbeat, load and uploads, each when it is due."""
        self._take_renewed()
        if time.monotonic() >= self._next_heartbeat:
            self._heartbeat()
        self._kick_uploads()
        self._send_load()

    def probe(self, known: MetricsRecord | None) -> None:
        """Write ``known`` again or, without it, the owner's sign of life, by the same request as metrics."""
        if known is not None:
            self._metrics.resend(known)
        elif self._is_ours() and self._progress.state.status is None:
            self._tell(self._client.log_batch, tags=[self._tag(HEARTBEAT_TAG, _sign_of_life())])

    def settle(self, verdict: Verdict, evidence: Evidence, counts: dict[str, int]) -> None:
        """Set the tags that say why, then the status, unless a newer attempt has taken the run over."""
        self._take_renewed()
        until = evidence.ended_ms or evidence.died_ms or None
        self._unless_hopeless("system metrics", lambda: self._send_load(until_ms=until))
        ours = self._owns_end(verdict, evidence)
        crash = evidence.exception
        if crash is not None and crash.traceback:
            self._keep_traceback(crash.traceback)
        if not (ours and self._set_end(verdict, evidence, counts)):
            logger.info("run %s has another owner: its status is left alone", self._run_id)
        known = ("emitted", "shipped", "dropped", "rejected")
        self._progress.update(status=verdict.status, **{name: counts[name] for name in known})
        self._kick_uploads()

    def finish_uploads(self) -> None:
        """Upload what waits, for some seconds; raise :class:`RetryableError` when something still does."""
        self._kick_uploads()
        if not self._uploader.finish(LAST_UPLOAD_SECONDS):
            names = ", ".join(path.name for path in self._outbox.pending())
            reason = self._uploader.error or "the artifact store has not answered yet"
            raise RetryableError(f"waiting to be uploaded: {names} ({reason})")

    def renew(self, tracking_uri: str | None) -> None:
        """Use ``tracking_uri`` from the next call on; MLflow itself reads the variables at each request."""
        self._renewed_uri = tracking_uri or self._renewed_uri

    def close(self) -> None:
        """Stop sampling; nothing is held open."""
        if self._load is not None:
            self._load.stop()
            self._load = None

    @property
    def _run_id(self) -> str:
        run = self._progress.state.run
        assert run is not None  # noqa: S101 - open() came first
        return run.run_id

    # Opening

    def _take_renewed(self) -> None:
        if self._renewed_uri is None or self._client is None:
            return
        self._tracking_uri, self._renewed_uri = self._renewed_uri, None
        self._metrics.renew(self._tracking_uri)
        self._client = self._call(self._connect)

    def _connect(self) -> Any:
        check_address(self._tracking_uri)
        self._check_removed()
        patience = take_over()
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        guard_requests()
        bound_answers()
        limit_answers()
        self._metric, self._param, self._tag = Metric, Param, RunTag
        with alone_with(self._tracking_uri):
            probe_database(self._tracking_uri)
            client = MlflowClient(tracking_uri=self._tracking_uri)
        self._metrics.connect(client, Metric, patience=patience)
        return client

    def _ask(self) -> None:
        """Ask the server anything: whether it answers is what counts."""
        if self._client is None:
            self._client = self._call(self._connect)
        self._call(self._client.search_experiments, max_results=1)

    def _with_parent(self) -> Meta:
        """The meta record with the parent's run id, which may have become known only now."""
        if self._meta.target.parent_journal is None or self._progress.state.run is not None:
            return self._meta
        try:
            found = parent_run_id(self._progress.journal.path, self._meta)
        except ParentUnknownError as error:
            self._progress.notice(f"this run is not nested under its parent: {error}")
            return self._meta
        if found is None and self._earlier is not None:
            reason = self._earlier.check_parent(self._ask)
            self._progress.notice(f"this run is not nested under its parent, which has no run id: {reason}")
            return self._meta
        if found is None:
            parent = self._meta.target.parent_journal
            raise RetryableError(f"waiting until the parent has a run id ({parent})")
        target = msgspec.structs.replace(self._meta.target, parent_run_id=found)
        return msgspec.structs.replace(self._meta, target=target)

    def _open_run(self) -> None:
        """Find, resume or create the run; in this order, since one that was created has a run-id file too."""
        opener = self._opener()
        unsure = self._progress.state.creating
        run = opener.find_created() if unsure else None
        found: Found | None = None
        if run is None:
            found = opener.resume(self._turn_page)
            run = None if found is None else found.run
        if run is None:
            self._created_blindly = unsure
            self._progress.update(creating=True)
            run = opener.create()
        info = opener.describe(run, found=found)
        self._keep_run_id_file(info)
        self._progress.update(run=info, creating=False)
        if found is not None and found.claimed:
            self._redone = RedoneSteps(
                last_steps(found.run), run_id=info.run_id, notice=self._progress.notice
            )

    def _opener(self) -> RunOpener:
        return RunOpener(
            self._client,
            self._meta,
            translate=self._translate,
            tag=self._tag,
            notice=self._progress.notice,
        )

    def _turn_page(self, run: Any) -> None:
        """Have the page say nothing of earlier attempts any more."""
        page = _Page(self._client, run.info.run_id, self._call)
        own = self._meta.journal_id
        turn_page(run, page, own_journal=own, outbox=self._outbox, progress=self._progress)

    def _keep_run_id_file(self, info: RunInfo) -> None:
        directory = self._meta.target.checkpoint_dir
        if directory is None:
            return
        late = not is_alive(self._meta.owner)
        if late and is_newer(directory, self._meta.started_ms, info.run_id):
            return  # delivered late, this attempt must not lead the next one away from a later attempt's run
        try:
            write_run_id_file(directory, info.run_id)
        except OSError as error:
            self._progress.notice(
                f"the run id could not be kept in {directory}: {error}; a resume will not find it"
            )

    def _start_waits(self) -> bool:
        """Whether ``start()`` is still there to hear that the credentials are bad."""
        waited = time.time() - self._meta.started_ms / 1000
        # Less than nothing: the clock was set back meanwhile. Then they are tried again, as they are later.
        return self._progress.state.run is None and 0 <= waited < read_environment().start_timeout

    # Going on

    def _start_sampling(self) -> None:
        if self._sample_load_every is None or self._load is not None or not self._ownership.held:
            return
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        make: Callable[..., Any] = SystemMetricsMonitor
        try:  # made for its monitors: which GPUs there are, and how to ask them, it knows
            try:
                monitors = make(self._run_id, tracking_uri=self._tracking_uri).monitors
            except TypeError:  # MLflow 3.6 has no such argument
                monitors = make(self._run_id).monitors
        except Exception as error:
            self._progress.notice(f"no system metrics: MLflow's monitor can't be made ({error})")
            self._sample_load_every = None
            return
        started = self._tell(self._client.get_run).info.start_time
        load = SystemMetrics(monitors, interval=self._sample_load_every, since_ms=started)
        load.start()  # where no thread can be started, the next open() tries again
        self._load = load

    def _send_load(self, *, until_ms: int | None = None) -> None:
        while self._load is not None and (samples := self._load.waiting(LOAD_SAMPLES, until_ms=until_ms)):
            metrics = [
                self._metric(self._metrics.valid(name), value, sample.timestamp_ms, sample.step)
                for sample in samples
                for name, value in sample.metrics.items()
            ]
            try:
                for chunk in chunks(metrics, MAX_METRICS_PER_BATCH):
                    self._tell(self._client.log_batch, metrics=chunk)
            except RejectedError as error:
                logger.warning("system metrics were refused: %s", error)
            self._load.sent(samples)

    def _heartbeat(self) -> None:
        """Show that the owner lives, or, as a secondary writer, look whether it does."""
        self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        self._progress.touch()
        run = self._get_run()
        self._look_at_owner(run)
        if not self._ownership.held:
            return
        # What `trackside reap` thought in an outage, or another program that ended our run.
        was_ended = self._progress.state.status is None and run.info.status != "RUNNING"
        if was_ended and not self._status.set("RUNNING"):
            return
        self.set_tag(HEARTBEAT_TAG, _sign_of_life())

    def _is_ours(self) -> bool:
        """Whether the run is this attempt's, as of now."""
        self._look_at_owner(self._get_run())
        return self._ownership.held

    def _note_standing(self) -> None:
        if self._progress.state.ownership != self._ownership.standing:
            self._progress.update(ownership=self._ownership.standing)

    def _get_run(self) -> Any:
        return self._tell(self._client.get_run)

    def _look_at_owner(self, run: Any) -> None:
        held = self._ownership.held
        if self._ownership.look(run):
            self._claim(run)
        elif held and not self._ownership.held:
            self._progress.notice(
                f"{describe_owner(run.data.tags)} has taken run {self._run_id} over: this process goes on "
                "adding points to it, and no longer sets its status"
            )
        self._note_standing()

    def _claim(self, run: Any) -> None:
        """Take the run over from an owner that is gone, or whose end this training has outlived."""
        self._turn_page(run)
        self._opener().claim(self._run_id)
        self._ownership.claimed()
        self._note_standing()
        self._progress.notice(
            f"this process now owns run {self._run_id} and sets its status: "
            f"{describe_owner(run.data.tags)}, its owner so far, is gone"
        )
        self._start_sampling()

    def _upload(self, path: Path) -> None:
        with _uploading:  # MLflow 3.6 uploads to the server it finds here, not to the client's
            os.environ["MLFLOW_TRACKING_URI"] = self._tracking_uri
            text = read_file(path, MAX_TEXT).decode("utf-8", "replace")
            if path.name == ATTEMPTS_FILE:
                upload_attempts(text, self._artifacts())
            else:
                self._call(self._client.log_text, self._run_id, text, path.name)

    def _artifacts(self) -> RunArtifacts:
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        return RunArtifacts(self._client, self._run_id, call=self._call, repository=get_artifact_repository)

    # Ending

    def _owns_end(self, verdict: Verdict, evidence: Evidence) -> bool:
        """Whether the status is ours to set.

        Raises :class:`RetryableError` while that cannot be told; the trainer need not wait for it.
        """
        run = self._get_run()
        ended = evidence.ended_ms or evidence.died_ms or now_ms()
        if not self._ownership.saw_alive:  # the time of death is that of files, which may be copies
            ended = evidence.ended_ms or self._meta.started_ms
        found = self._ownership.look_at_end(run, ended_ms=ended)
        self._note_standing()
        if found == "claim":
            self._claim(run)
        elif found == "wait" and verdict.final:
            self._progress.update(status=verdict.status)
            msg = f"waiting to see whether the owner of the run, {describe_owner(run.data.tags)}, lives"
            raise RetryableError(msg, retry_after=OWNER_LOOK_SECONDS)
        return self._ownership.held

    def _beside_owners(self, name: str) -> str:
        """A name for a secondary writer's artifact, which must not replace the owner's."""
        stem, _, ending = name.rpartition(".")
        return f"{stem}.{self._meta.journal_id[:8]}.{ending}"

    def _set_end(self, verdict: Verdict, evidence: Evidence, counts: dict[str, int]) -> bool:
        """Say on the page how the run ended; False if it has become another attempt's meanwhile."""
        on_page = dict(self._get_run().data.tags)
        tags = self._end_tags(verdict, evidence, counts, on_page)
        try:
            self._unless_hopeless(
                "the tags that tell how the run ended",
                lambda: self._tell(self._client.log_batch, tags=[self._tag(*item) for item in tags.items()]),
            )
        except RejectedError as error:  # the status matters more than the reason
            self._progress.notice(f"the tags that tell how the run ended were refused: {error}")
        ended = evidence.ended_ms or evidence.died_ms or now_ms()
        if not self._status.set(verdict.status, ended_ms=ended):
            return False
        if verdict.final and OWNER_TAG in on_page:
            self._unless_hopeless("the end of the ownership", lambda: self._forget(OWNER_TAG))
        if verdict.final and HEARTBEAT_TAG in on_page:
            # Last: `trackside reap` finds by it what is left RUNNING.
            self._unless_hopeless("the end of the heartbeat", lambda: self._forget(HEARTBEAT_TAG))
        if self._created_blindly:
            self._opener().delete_twins(self._run_id)
        return True

    def _write_status(self, status: str, ended_ms: int | None) -> None:
        if ended_ms is None:
            self._tell(self._client.update_run, status)
        else:
            self._tell(self._client.set_terminated, status=status, end_time=ended_ms)

    def _forget(self, tag: str) -> None:
        """A run that has ended shows no process. The journal's tag stays, for those who come later."""
        try:
            self._tell(self._client.delete_tag, tag)
        except RejectedError as error:
            logger.info("the tag %s stays: %s", tag, error)

    def _end_tags(
        self, verdict: Verdict, evidence: Evidence, counts: dict[str, int], on_page: dict[str, str]
    ) -> dict[str, str]:
        """What the page says at the end; the counts are those of all attempts."""
        state = self._progress.state
        total = {name: count + state.earlier.get(name, 0) for name, count in counts.items()}
        host = self._meta.owner.host
        summary = summary_tags(
            total,
            host=host,
            started_ms=self._meta.started_ms,
            ended_ms=evidence.ended_ms or evidence.died_ms or now_ms(),
            status=verdict.status,
            attempt=state.attempt,
        )
        described = on_page.get(DESCRIPTION_TAG, "")
        text = describe_end(described, verdict, evidence)
        note = {} if text == described else {DESCRIPTION_TAG: text}
        return {**end_tags(verdict, evidence), **summary, **note}

    def _unless_hopeless(self, what: str, call: Callable[[], object]) -> None:
        """Do what the status must not wait for, once it alone has failed :data:`END_TRIES` times."""
        if self._end_failures[what] >= END_TRIES:
            return
        try:
            call()
        except RetryableError as error:
            self.probe(None)  # raises in an outage, which says nothing of what failed
            self._end_failures[what] += 1
            if self._end_failures[what] < END_TRIES:
                raise
            self._progress.notice(f"{what} could not be written, and the run goes without: {error}")

    def _keep_traceback(self, text: str) -> None:
        try:
            self._outbox.put(TRACEBACK if self._ownership.held else self._beside_owners(TRACEBACK), text)
        except OSError as error:  # a full disk may be why it crashed; the status matters more
            self._progress.notice(f"the traceback could not be kept to be uploaded: {error}")

    def _kick_uploads(self) -> None:
        if self._config is not None:
            self._config.keep_document()
        self._uploader.kick()

    def _tell_of_artifacts(self, error: str | None) -> None:
        self._progress.update(artifacts_error=error)

    # Calling

    def _tell(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Call ``function`` for the run. Where that is gone, raise :class:`DestinationFailedError`."""
        try:
            return self._call(function, self._run_id, *arguments, **options)
        except RejectedError as error:
            self._check_run(error)
            raise

    def _check_run(self, refusal: RejectedError) -> None:
        try:
            run = self._call(self._client.get_run, self._run_id)
            gone = run.info.lifecycle_stage == "deleted"
        except RejectedError:
            gone = True
        if gone:
            msg = (
                f"run {self._run_id} was deleted: restore it (mlflow runs restore --run-id {self._run_id}) "
                f"and run `trackside sync` to deliver what came after ({refusal})"
            )
            self._progress.notice(msg)
            raise DestinationFailedError(msg) from refusal

    def _check_removed(self) -> None:
        """Make nothing again that somebody removed; raise :class:`GoneError` instead."""
        if not self._outbox.has_place():
            msg = "the journal was removed: nothing new is made for it"
            raise GoneError(msg)
        same = database_file(self._meta.target.tracking_uri) == self._database
        if self._progress.state.run is None:
            self._require(self._meta.store_path if same else None)
        elif same:
            self._require(self._database)

    def _require(self, path: str | None) -> None:
        try:
            require_path(path)
        except GoneError as error:
            self._progress.notice(str(error))
            raise

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        if self._client is not None:
            self._require(self._database)
        try:
            return function(*arguments, **options)
        except DeliveryError:
            raise
        except Exception as error:
            raise self._translate(error) from error
        finally:
            self.answered_at = time.monotonic()

    def _translate(self, error: BaseException) -> DeliveryError:
        found = (translate if self._progress.state.run else translate_opening)(error)
        if isinstance(found, UnauthorisedError):
            self._progress.notice(
                f"MLflow refuses the credentials; everything is kept until they are mended ({found})"
            )
        return found


class _Page:
    """A run's page, while it is not yet known whether the run is ours."""

    def __init__(self, client: Any, run_id: str, call: Callable[..., Any]) -> None:
        self._client = client
        self._run_id = run_id
        self._call = call

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag."""
        self._call(self._client.set_tag, self._run_id, key, value)

    def delete_tag(self, key: str) -> None:
        """Delete a tag that is there."""
        self._call(self._client.delete_tag, self._run_id, key)


def _sign_of_life() -> str:
    now = datetime.now(tz=timezone.utc).isoformat(timespec="seconds")
    return f"{now} {socket.gethostname()}"
