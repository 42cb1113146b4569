"""Delivering to MLflow: metrics in batches, params apart from them, tags, artifacts and the status.

One of the two files that import mlflow. Limits, with their source: ``mlflow/utils/validation.py``.

MLflow's SQL stores key a metric by (run, key, timestamp, step, value, is_nan), so a batch that is sent
twice is stored once. ``log_batch`` writes params before metrics and fails as a whole on a changed param;
so the two never travel together.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from typing import Any

from trackside.destinations.mlflow_errors import translate
from trackside.destinations.mlflow_run import MAX_TAG_VALUE, RunOpener
from trackside.errors import DeliveryError, RejectedError, RetryableError
from trackside.journal.format import ConfigRecord, MetricsRecord
from trackside.journal.directory import JournalDirectory, read_json
from trackside.journal.meta import Meta, RunInfo, State
from trackside.names import valid_name
from trackside.params import truncate_params
from trackside.journal.outbox import Outbox
from trackside.journal.progress import Progress
from trackside.sidecar import write_sidecar
from trackside.status import Evidence, Verdict, signal_name

logger = logging.getLogger(__name__)

MAX_METRICS_PER_BATCH = 1000
MAX_PARAMS_PER_BATCH = 100
MAX_PARAM_VALUE = 6000
MAX_KEY = 250

HEARTBEAT_SECONDS = 30.0
ARTIFACT_TRIES = 5
REQUEST_TIMEOUT = 30
"""Seconds. MLflow's default of 120, seven times over, keeps a caller waiting for minutes."""


class MLflowDestination:
    """A run in MLflow. Made in the shipper, used by one lane."""

    name = "mlflow"
    batch_points = MAX_METRICS_PER_BATCH

    def __init__(self, meta: Meta, tracking_uri: str, *, progress: Progress, outbox: Outbox) -> None:
        self._meta = meta
        self._tracking_uri = tracking_uri
        self._progress = progress
        self._outbox = outbox
        self._client: Any = None
        self._metric: Callable[..., Any] = dict
        self._names: dict[str, str] = {}
        self._next_heartbeat = 0.0
        self._artifact_tries = 0
        self._next_upload = 0.0
        self._document: dict[str, Any] = {}

    def open(self) -> None:
        """Connect; create the run, or resume it, once the attempts before this one are delivered."""
        self._wait_for_leftovers()
        if self._client is None:
            self._client = self._call(self._connect)
        opener = RunOpener(self._client, self._meta, translate=translate)
        if self._progress.state.run is None:
            self._open_run(opener)
        self._progress.update(phase="shipping")
        self._heartbeat()

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        """Send all points of ``batch``, at most 1000 a request."""
        metrics = [
            self._metric(self._valid(name), value, record.timestamp_ms, record.step)
            for record in batch
            for name, value in record.named_values().items()
        ]
        for chunk in _chunks(metrics, MAX_METRICS_PER_BATCH):
            self._call(self._client.log_batch, self._run_id, metrics=chunk)

    def write_config(self, record: ConfigRecord) -> None:
        """Log params that are new, keep those that changed, and the whole document as an artifact."""
        params, cut = truncate_params(record.params, max_key=MAX_KEY, max_value=MAX_PARAM_VALUE)
        if cut:
            self._progress.notice(f"params cut or renamed for MLflow, whole in config.yaml: {', '.join(cut[:10])}")
        known = self._call(self._client.get_run, self._run_id).data.params
        changed = {key: value for key, value in params.items() if known.get(key, value) != value}
        new = [(key, value) for key, value in params.items() if key not in known]
        for chunk in _chunks(new, MAX_PARAMS_PER_BATCH):
            self._call(self._client.log_batch, self._run_id, params=[self._param(*item) for item in chunk])
        if changed:
            self._note_changed(changed)
        _merge(self._document, record.document)
        self._outbox.put(self._config_name(), _to_yaml(self._document))
        self._artifact_tries = 0

    def idle(self) -> None:
        """Heartbeat and uploads, each when it is due."""
        now = time.monotonic()
        if now >= self._next_heartbeat:
            self._heartbeat()
        if now >= self._next_upload:
            self._upload()

    def settle(self, verdict: Verdict, evidence: Evidence, counts: dict[str, int]) -> None:
        """Set the tags that say why, then the status, unless a newer attempt has taken the run over."""
        if evidence.crash is not None and evidence.crash.traceback:
            self._outbox.put("traceback.txt", evidence.crash.traceback)
        if not self._is_ours():
            logger.info("a newer attempt goes on with run %s: its status is left alone", self._run_id)
            return
        tags = _end_tags(verdict, evidence, counts)
        self._call(self._client.log_batch, self._run_id, tags=[self._tag(*item) for item in tags.items()])
        ended = evidence.died_ms or time.time_ns() // 1_000_000
        self._call(self._client.set_terminated, self._run_id, status=verdict.status, end_time=ended)
        self._progress.update(status=verdict.status, **{k: counts[k] for k in ("emitted", "shipped", "dropped", "rejected")})
        self._artifact_tries = min(self._artifact_tries, ARTIFACT_TRIES - 1)
        self._upload()

    def close(self) -> None:
        """Nothing is held open."""

    @property
    def _run_id(self) -> str:
        run = self._progress.state.run
        assert run is not None  # noqa: S101 - open() came first
        return run.run_id

    def _connect(self) -> Any:
        # The shipper's policy rules, not MLflow's own (7 tries, 244 s in all).
        os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(REQUEST_TIMEOUT))
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        self._metric, self._param, self._tag = Metric, Param, RunTag
        return MlflowClient(tracking_uri=self._tracking_uri)

    def _wait_for_leftovers(self) -> None:
        for path in self._meta.after:
            earlier = JournalDirectory(path)
            state = read_json(earlier.state, State)
            if earlier.meta.exists() and not (state and state.phase in {"refused", "done"}):
                msg = f"waiting until an earlier attempt is delivered ({earlier.path})"
                raise RetryableError(msg)

    def _open_run(self, opener: RunOpener) -> None:
        run = opener.resume()
        resumed = run is not None
        if run is None and self._progress.state.creating:
            run = opener.find_created()
        if run is None:
            self._progress.update(creating=True)
            run = opener.create()
        info = opener.describe(run, resumed=resumed)
        self._keep_sidecar(info)
        self._progress.update(run=info, creating=False)

    def _keep_sidecar(self, info: RunInfo) -> None:
        directory = self._meta.target.sidecar
        if directory is None:
            return
        try:
            write_sidecar(directory, info.run_id)
        except OSError as error:
            self._progress.notice(f"the run id could not be kept in {directory}: {error}; a resume will not find it")

    def _is_ours(self) -> bool:
        tags = self._call(self._client.get_run, self._run_id).data.tags
        return tags.get("trackside.journal", self._meta.journal_id) == self._meta.journal_id

    def _valid(self, name: str) -> str:
        valid = self._names.get(name)
        if valid is None:
            valid = self._names[name] = valid_name(name, MAX_KEY)
            if valid != name:
                self._progress.notice(f"metric {name!r} is not a name MLflow takes; it is logged as {valid!r}")
        return valid

    def _note_changed(self, changed: dict[str, str]) -> None:
        text = json.dumps(changed)[:MAX_TAG_VALUE]
        self._call(self._client.set_tag, self._run_id, "trackside.params.changed", text)
        self._progress.notice(
            f"params differ from those the run already has and were kept as they were: {', '.join(sorted(changed)[:10])}"
        )

    def _config_name(self) -> str:
        run = self._progress.state.run
        if run is None or not run.resumed:
            return "config.yaml"
        started = datetime.fromtimestamp(self._meta.started_ms / 1000, tz=timezone.utc)
        return f"config.resumed-{started:%Y%m%dT%H%M%SZ}.yaml"

    def _heartbeat(self) -> None:
        self._next_heartbeat = time.monotonic() + HEARTBEAT_SECONDS
        self._progress.touch()
        self._stay_running()
        now = datetime.now(tz=timezone.utc).isoformat(timespec="seconds")
        self._call(self._client.set_tag, self._run_id, "trackside.heartbeat", f"{now} {socket.gethostname()}")

    def _stay_running(self) -> None:
        """Take back what ``trackside reap`` may have thought after an outage in which no heartbeat got out."""
        if self._progress.state.status is None:
            status = self._call(self._client.get_run, self._run_id).info.status
            if status != "RUNNING":
                self._call(self._client.update_run, self._run_id, "RUNNING")

    def _upload(self) -> None:
        """Upload what waits; an artifact store that fails holds nothing up, and is reported once."""
        for path in self._outbox.pending():
            if self._artifact_tries >= ARTIFACT_TRIES:
                return
            try:
                self._call(self._client.log_text, self._run_id, path.read_text("utf-8"), path.name)
            except (RetryableError, RejectedError) as error:
                self._artifact_tries += 1
                self._next_upload = time.monotonic() + 2.0**self._artifact_tries
                logger.warning("artifact %s: %s", path.name, error)
                if self._artifact_tries >= ARTIFACT_TRIES:
                    self._progress.notice(f"artifact {path.name} could not be uploaded: {error}")
                return
            self._outbox.sent(path)

    def _call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        try:
            return function(*arguments, **options)
        except DeliveryError:
            raise
        except Exception as error:
            raise translate(error) from error


def _chunks(items: list[Any], size: int) -> Iterator[list[Any]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _to_yaml(document: dict[str, Any]) -> str:
    import yaml  # MLflow brings it

    return str(yaml.safe_dump(document, sort_keys=False, allow_unicode=True))


def _end_tags(verdict: Verdict, evidence: Evidence, counts: dict[str, int]) -> dict[str, str]:
    """Enough on the run's page to know why it ended."""
    tags = {"trackside.end.reason": verdict.reason}
    if evidence.crash is not None:
        tags["trackside.end.exception"] = evidence.crash.error_type
        tags["trackside.end.message"] = evidence.crash.message
    stops = sorted(evidence.terminate_signals & set(evidence.signals))
    if evidence.killed_by is not None and evidence.killed_by not in stops:
        stops.append(evidence.killed_by)
    if stops:
        tags["trackside.end.signal"] = ", ".join(signal_name(number) for number in stops)
    if evidence.exit_code is not None:
        tags["trackside.end.exit_code"] = str(evidence.exit_code)
    if evidence.oom:
        tags["trackside.end.oom"] = "true"
    tags.update({f"trackside.{name}": str(count) for name, count in counts.items()})
    return {key: value[:MAX_TAG_VALUE] for key, value in tags.items()}
