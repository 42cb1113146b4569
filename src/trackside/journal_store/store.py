"""The methods of the tracking store that are ours. The others pass through (:mod:`.passing`).

Invariant: after a run is open, nothing that is logged into it waits for the server.
"""

from __future__ import annotations

import logging
import sys
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from mlflow.entities import RunInfo, RunStatus, RunTag
from mlflow.exceptions import MlflowException
from mlflow.utils.async_logging.run_operations import RunOperations
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID, MLFLOW_RUN_NAME, MLFLOW_SOURCE_NAME

from trackside.events import ParamsEvent, as_final
from trackside.journal_store.passing import class_beside
from trackside.journal_store.points import samples_of
from trackside.journal_store.reads import catch_up
from trackside.journal_store.runs import Claim, Runs
from trackside.journal_store.stock import wants_addresses_only
from trackside.journal_store.texts import plain_texts, refuse_changes
from trackside.lifecycle.in_flight import interpreter_is_leaving
from trackside.settings import read_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from mlflow.entities import Metric, Param

    from trackside.journal_store.runs import Recording

logger = logging.getLogger("trackside.journal_store")

_NOW = 60_000
"""Milliseconds around now in which MLflow's client may have taken the time of an end itself."""


def journal_store(inner: Any, uri: str) -> Any:
    """The store that keeps in journals what is logged to ``inner``, MLflow's own store for ``uri``."""
    made = class_beside(JournalTracking, type(inner))
    store = object.__new__(made)
    JournalTracking.__init__(store, inner, uri)
    return store


class JournalTracking:
    """A tracking store: what is logged through it goes into a journal."""

    def __init__(self, inner: Any, uri: str) -> None:
        self.inner = inner
        self._runs = Runs(inner, uri)

    # Logging

    def log_batch(
        self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
    ) -> None:
        """Keep all of it, in MLflow's order: params, metrics, tags."""
        recording = self._runs.recording(run_id)
        if recording is None:
            self.inner.log_batch(run_id, metrics, params, tags)
            return
        if params and not self._keep_params(recording, run_id, params):
            self.inner.log_batch(run_id, [], params, [])
            _note_params(recording, params)
        if not _keep_metrics(recording, metrics):
            self.inner.log_batch(run_id, metrics, [], [])
        if tags and not self._keep_tags(recording, run_id, tags):
            self.inner.log_batch(run_id, [], [], tags)

    def log_metric(self, run_id: str, metric: Metric) -> None:
        """Keep one metric."""
        recording = self._runs.recording(run_id)
        if recording is None or not _keep_metrics(recording, [metric]):
            self.inner.log_metric(run_id, metric)

    def log_param(self, run_id: str, param: Param) -> None:
        """Keep one param."""
        recording = self._runs.recording(run_id)
        if recording is None:
            self.inner.log_param(run_id, param)
        elif not self._keep_params(recording, run_id, [param]):
            self.inner.log_param(run_id, param)
            _note_params(recording, [param])

    def set_tag(self, run_id: str, tag: RunTag) -> None:
        """Keep one tag."""
        recording = self._runs.recording(run_id)
        if recording is None or not self._keep_tags(recording, run_id, [tag]):
            self.inner.set_tag(run_id, tag)

    # These return False for what MLflow has to judge itself, by the same call: its errors name the argument.

    def _keep_params(self, recording: Recording, run_id: str, params: Sequence[Param]) -> bool:
        texts = plain_texts(params, "param")
        if texts is None:
            self._catch_up(run_id)  # so that MLflow sees which ones were logged before
            return False
        refuse_changes(recording.params, texts, run_id)
        new = {key: value for key, value in texts.items() if key not in recording.params}
        recording.params.update(new)
        if new:
            recording.run.emit(ParamsEvent(new))
        return True

    def _keep_tags(self, recording: Recording, run_id: str, tags: Sequence[RunTag]) -> bool:
        texts = plain_texts(tags, "tag")
        if texts is None:
            self._catch_up(run_id)  # an earlier value must not come later
            return False
        recording.run.keep_tags(texts)
        return True

    def delete_tag(self, run_id: str, key: str) -> None:
        """Deliver what was logged, the tag among it, and delete the tag."""
        self._catch_up(run_id)
        self.inner.delete_tag(run_id, key)

    def log_batch_async(
        self, run_id: str, metrics: Sequence[Metric], params: Sequence[Param], tags: Sequence[RunTag]
    ) -> Any:
        """Keep them now: that waits for nothing. An error is raised by the operation's ``wait()``."""
        return _done(self.log_batch, run_id, metrics, params, tags)

    def log_metric_async(self, run_id: str, metric: Metric) -> Any:
        """Keep one metric now."""
        return _done(self.log_batch, run_id, [metric], [], [])

    def log_param_async(self, run_id: str, param: Param) -> Any:
        """Keep one param now."""
        return _done(self.log_batch, run_id, [], [param], [])

    def set_tag_async(self, run_id: str, tag: RunTag) -> Any:
        """Keep one tag now."""
        return _done(self.log_batch, run_id, [], [], [tag])

    def flush_async_logging(self) -> None:
        """Wait until everything logged so far is delivered."""
        self._catch_up()

    def end_async_logging(self) -> None:
        """Nothing: no thread of ours logs."""

    def shut_down_async_logging(self) -> None:
        """Nothing: no thread of ours logs."""

    # Runs

    def create_run(
        self,
        experiment_id: Any,
        user_id: Any,
        start_time: Any,
        tags: Any,
        run_name: Any,
        *rest: Any,
        **options: Any,
    ) -> Any:
        """Create the run at once, because the program wants its id, and keep a journal for it.

        A run that does not name this program as its source may be for another process, which gets the id. It
        has a journal from the first time that something is logged into it here.
        """
        tags, run_name = list(tags or ()), run_name or _name_for(tags or ())
        claim = Claim() if any(tag.key == MLFLOW_SOURCE_NAME for tag in tags) else None
        claimed = [*tags, *(RunTag(key, value) for key, value in (claim.tags() if claim else {}).items())]
        try:
            run = self.inner.create_run(
                experiment_id, user_id, start_time, claimed, run_name, *rest, **options
            )
        except Exception:
            logger.warning(
                "MLflow could not create the run. Under journal+ a server is needed for that, too: only what "
                "you log after it waits in a journal while the server is away"
            )
            raise
        self._runs.made(run, claim)
        return run

    def update_run_info(
        self, run_id: str, run_status: Any, end_time: Any, run_name: Any, *rest: Any, **options: Any
    ) -> Any:
        """Keep a final status as the program's wish: the shipper sets the one that is true."""
        status = None if run_status is None else as_final(RunStatus.to_string(run_status))
        if status is None:
            if run_status is not None:
                self._catch_up(run_id)  # an end that was said before must not come later
            info = self.inner.update_run_info(run_id, run_status, end_time, run_name, *rest, **options)
            if run_status == RunStatus.RUNNING:
                self._runs.entered(run_id)
            return info
        if not self._runs.end(run_id, status):
            self._catch_up(run_id)
            return self.inner.update_run_info(run_id, run_status, end_time, run_name, *rest, **options)
        if run_name:
            self.inner.update_run_info(run_id, None, None, run_name, *rest, **options)
        if _is_other_time(end_time):
            self._catch_up(run_id)
            return self.inner.update_run_info(run_id, None, end_time, None, *rest, **options)
        return _ended(self._runs.info(run_id), status, end_time)

    def delete_run(self, run_id: str) -> None:
        """Deliver what was logged, and delete the run."""
        if self._runs.known(run_id) is not None:
            self._runs.end(run_id, "FINISHED")
            self._catch_up(run_id)
        self.inner.delete_run(run_id)
        self._runs.forget(run_id)

    # Reads

    def get_run(self, run_id: str, *rest: Any, **options: Any) -> Any:
        """The run, with everything that this process has logged into it."""
        if not wants_addresses_only():
            self._catch_up(run_id)
        run = self.inner.get_run(run_id, *rest, **options)
        self._runs.saw(run)
        return run

    def _catch_up(self, run_id: str | None = None) -> None:
        if run_id is None:
            catch_up(self._runs, self._runs.undelivered())
            return
        recording = self._runs.known(run_id)
        if recording is not None:
            catch_up(self._runs, [recording])


def _after_delivery(name: str, *, of_run: bool = False) -> Callable[..., Any]:
    def read(self: JournalTracking, *arguments: Any, **options: Any) -> Any:
        run_id = options.get("run_id", arguments[0] if arguments else None) if of_run else None
        self._catch_up(run_id)
        return getattr(self.inner, name)(*arguments, **options)

    read.__name__ = name
    read.__doc__ = f"``{name}`` of MLflow's store, with everything that this process has logged."
    return read


JournalTracking.get_metric_history = _after_delivery("get_metric_history", of_run=True)  # type: ignore[attr-defined]
for _name in (
    "get_metric_history_bulk",
    "get_metric_history_bulk_interval",
    "get_metric_history_bulk_interval_from_steps",
    "search_runs",
    "_search_runs",
    "search_logged_models",
    "get_logged_model",
    "delete_experiment",  # its runs take nothing more
    "delete_logged_model",
):
    setattr(JournalTracking, _name, _after_delivery(_name))


def _keep_metrics(recording: Recording, metrics: Sequence[Metric]) -> bool:
    samples = samples_of(metrics)
    if samples is None:
        return False
    for sample in samples:
        recording.run.emit(sample)
    return True


def _note_params(recording: Recording, params: Iterable[Param]) -> None:
    recording.params.update((param.key, param.value) for param in params)


def _name_for(tags: Iterable[Any]) -> str | None:
    """A name for a run that the program leaves unnamed. MLflow makes one up without."""
    known = {tag.key for tag in tags}
    return None if known & {MLFLOW_RUN_NAME, MLFLOW_PARENT_RUN_ID} else read_environment().run_name


def _done(call: Callable[..., object], *arguments: Any) -> Any:
    """``call``, made at once, as an operation that is over."""
    future: Future[None] = Future()
    try:
        call(*arguments)
    except MlflowException as error:
        future.set_exception(error)
    else:
        future.set_result(None)
    operations: Any = RunOperations
    return operations([future])


def _is_other_time(end_time: Any) -> bool:
    """Whether the program names a time of its own for the end, as one that imports old runs does."""
    if end_time is None or interpreter_is_leaving() or sys.exc_info()[1] is not None:
        return False
    return bool(abs(end_time - time.time() * 1000) > _NOW)


def _ended(info: Any, status: str, end_time: Any) -> Any:
    make: Any = RunInfo
    return make(**{**dict(info), "status": status, "end_time": end_time})
