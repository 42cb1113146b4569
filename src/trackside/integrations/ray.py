"""Callbacks for Ray: ``TracksideLoggerCallback`` for Tune's trials, ``TracksideTrainCallback`` for Ray Train.

Invariants:

* A trial has a run, nested under one for the experiment. An errored trial is FAILED with its exception, also
  if the experiment continues. A trial that is paused as the experiment ends is KILLED: it can be resumed.
* Trials that Tune runs at once have a bus each. Tune does not wait for the delivery of a trial that is over:
  the program's exit does, for all of them together. The experiment's run ends as every training's
  (:mod:`trackside.integrations.training_run`).
* In Ray Train the run is the driver's, where ``fit()`` returns or raises. The controller, a process of its
  own, adds the points and never decides how the run ends.
* Ray keeps the controller until the driver's exit, and then kills it together with its shipper. So the driver
  delivers what they have left, after its own run has ended.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

from trackside.event_bus.bus import Bus
from trackside.integrations.left_journals import LeftJournals
from trackside.integrations.missing import needs_extra
from trackside.integrations.training_run import TrainingRun
from trackside.redaction.redact import redact
from trackside.session.current import current_run
from trackside.session.start import start
from trackside.settings import read_environment

with needs_extra("ray"):
    import ray
    from ray.train import UserCallback
    from ray.tune.logger import LoggerCallback

if TYPE_CHECKING:
    from collections.abc import Mapping

    from typing_extensions import Unpack

    from trackside.session.options import StartOptions
    from trackside.session.run import Run

_log = logging.getLogger("trackside.integrations")

FLUSH_TIMEOUT = 30.0
"""Seconds to wait for delivery after workers have failed. Their training has stopped."""

STEP_KEYS = ("timesteps_total", "training_iteration")
"""What a result is counted by, the first of these that it has. Ray's own MLflow callback does the same."""


class TracksideLoggerCallback(LoggerCallback):
    """Log Tune's trials: ``RunConfig(callbacks=[TracksideLoggerCallback(experiment_name="search")])``.

    Each trial has a run of its own, with its config and results. They are nested under a run for the
    experiment. Options are those of :func:`trackside.start`.
    """

    def __init__(self, **options: Unpack[StartOptions]) -> None:
        self._options = options
        self._parent: TrainingRun | None = None
        self._runs: dict[str, Run] = {}

    def log_trial_start(self, trial: Any) -> None:
        """Begin the trial's run. A trial that was paused continues with the run it had."""
        if trial.trial_id in self._runs:
            return
        if self._parent is None:
            self._parent = TrainingRun()
            self._parent.begin(**self._options)
        self._runs[trial.trial_id] = start(
            run_name=str(trial),
            parent=self._parent.run,
            bus=Bus(f"trial {trial.trial_id}"),
            config=trial.config or None,
            flatten_depth=self._options.get("flatten_depth", 1),
            tags={"trial_name": str(trial), "trial_id": trial.trial_id},
            sinks=self._options.get("sinks", ()),
            destinations=self._options.get("destinations", ()),
        )

    def log_trial_result(self, iteration: int, trial: Any, result: Mapping[str, Any]) -> None:
        """Log a result's numbers, nested ones under names with a slash."""
        run = self._runs.get(trial.trial_id)
        if run is not None:
            step = next((result[key] for key in STEP_KEYS if result.get(key)), None)
            run.log({key: value for key, value in result.items() if not _is_text(key, value)}, step)

    def log_trial_end(self, trial: Any, failed: bool = False) -> None:
        """End the trial's run: FAILED with its exception, or FINISHED."""
        run = self._runs.pop(trial.trial_id, None)
        if run is None:
            return
        if failed:
            run.finish("FAILED", error=_error_of(trial), reason="the trial has failed", wait=False)
        else:
            ended = (trial.last_result or {}).get("done")
            run.finish(reason="finished" if ended else "stopped by Tune", wait=False)

    def on_experiment_end(self, trials: list[Any], **_info: Any) -> None:
        """End the runs of trials that are not over, and take the experiment as done."""
        for trial in trials:
            run = self._runs.pop(trial.trial_id, None)
            if run is not None:
                why = f"the experiment ended while the trial was {trial.status}"
                run.finish("KILLED", reason=why, wait=False)
        if self._parent is not None:
            self._parent.complete()

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves callbacks with the experiment's state. Runs stay in their process."""
        return {**vars(self), "_parent": None, "_runs": {}}


def _is_text(key: str, value: Any) -> bool:
    """Whether Tune reports this about the trial, and not as a number."""
    return key in {"config", "pid"} or value is None or isinstance(value, str)


def _error_of(trial: Any) -> BaseException | None:
    """The exception that the trial's code raised. Tune is handling it, or has kept it. None if it has not."""
    error = sys.exc_info()[1]
    with contextlib.suppress(Exception):
        error = error or trial.get_pickled_error()
    cause = getattr(error, "cause", None)  # Ray wraps what its processes raise
    return cause if isinstance(cause, BaseException) else error


class TracksideTrainCallback(UserCallback):
    """Log what the workers of Ray Train report: ``RunConfig(callbacks=[TracksideTrainCallback()])``.

    Make it in the driver. The run is the one that your program has started, or else a new one: options are
    those of :func:`trackside.start`. It gets the metrics of rank 0. With ``all_ranks`` it gets the others',
    too, under ``rank_1/`` and so on. ``step_key``: the metric that is the step. Default: the report's number.
    """

    def __init__(
        self,
        *,
        all_ranks: bool = False,
        step_key: str | None = None,
        **options: Unpack[StartOptions],
    ) -> None:
        self._all_ranks, self._step_key = all_ranks, step_key
        self._reports = 0
        self._writer: Run | None = None
        self._driver = os.getpid()
        # Before the run's own hooks are registered, so that it is called after them.
        atexit.register(self._deliver_left)
        training = TrainingRun()
        self.run: Run = training.begin(**options)
        """The driver's run. In the controller it is a handle."""
        self._journals = None if self.run.journal is None else os.path.dirname(str(self.run.journal.path))
        training.complete()  # fit() raises in the driver if the training fails, and that ends the run

    def after_report(
        self,
        run_context: Any,
        metrics: list[dict[str, Any]],
        checkpoint: Any,
    ) -> None:
        """Log one report of all workers."""
        step = self._reports
        self._reports += 1
        writer = self._writer_here()
        for rank, reported in enumerate(metrics if self._all_ranks else metrics[:1]):
            at = reported.get(self._step_key, step) if self._step_key else step
            writer.log(reported, at, prefix=None if rank == 0 else f"rank_{rank}")

    def after_exception(self, run_context: Any, worker_exceptions: dict[int, Exception]) -> None:
        """Say what has failed. Ray may start the workers again, so the run has not ended."""
        for rank, error in sorted(worker_exceptions.items()):
            _log.warning("rank %d has failed: %s", rank, redact(str(error)))
        self._writer_here().flush(FLUSH_TIMEOUT)  # Ray may end this process at once, and its children with it

    def _writer_here(self) -> Run:
        """The run to log into in this process: the driver's, or one that adds to it."""
        if self.run.is_recording:
            return self.run
        if self._writer is None:
            if self._journals is not None and os.path.isdir(self._journals):  # where `trackside sync` looks
                os.environ.setdefault("TRACKSIDE_DIR", self._journals)
            self._writer = current_run() or start(
                run_id=self.run.run_id,
                resume="always",
                experiment_name=self.run.link.experiment_name,
                tracking_uri=self.run.link.tracking_uri,
            )
        return self._writer

    def _deliver_left(self) -> None:
        """The driver leaves, and its run has ended: deliver what the controller has logged."""
        if os.getpid() == self._driver and self._journals is not None:
            left = LeftJournals(self._journals, self.run.link)
            left.deliver(read_environment().exit_timeout, end_process=_end_ray)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_writer": None}


def _end_ray() -> None:
    """Disconnect from Ray, which ends the controller. Ray does that by itself in a moment.

    A driver that is one of Ray's own workers leaves that to Ray.
    """
    with contextlib.suppress(Exception):
        if ray.is_initialized() and ray.get_runtime_context().worker.mode == ray.SCRIPT_MODE:
            ray.shutdown()
