"""A logger for Lightning and Fabric: ``Trainer(logger=TracksideLogger("digits"))``.

It serves ``lightning``, ``pytorch_lightning`` and Fabric. Its base class is the ``Logger`` of whichever of
them the program has imported.

A Trainer calls ``finalize("success")`` after each ``fit``, ``validate`` and ``test``, so that is not the end
of the run. The run ends with the program, with ``logger.experiment.finish()``, or when another logger begins
one.

Invariants:

* Making a logger, its ``name`` and its ``version`` start nothing and wait for nothing. The Trainer makes the
  checkpoint folder of them.
* One logger has one run, also over several fits, in the workers of ``ddp_spawn``, and after a failed fit.
* ``finalize("finished")`` runs in Lightning's signal handler, so it only appends to a queue.
* Logging never raises into the training. Beginning the run may, as :func:`trackside.start` does.
"""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING, Any, cast

from trackside.artifact_events import CheckpointEvent
from trackside.events import ConfigEvent, LifecycleEvent
from trackside.integrations.checkpoints import checkpoint_policy
from trackside.integrations.lightning_checkpoints import saved_by
from trackside.integrations.lightning_identity import LoggerIdentity, chosen_experiment, in_slurm
from trackside.integrations.lightning_packages import is_other_rank, logger_class, no_experiment
from trackside.integrations.lightning_run import LoggerRun
from trackside.integrations.lightning_state import RunState, state_of

if TYPE_CHECKING:
    import os
    from argparse import Namespace
    from collections.abc import Iterable, Mapping

    from lightning.pytorch.loggers.logger import Logger

    from trackside.artifact_events import UploadPolicy
    from trackside.event_bus.bus import Bus
    from trackside.integrations.checkpoints import LogCheckpoints
    from trackside.session.options import DestinationOption, SinkOption
    from trackside.session.run import Run
else:
    Logger = logger_class()

_log = logging.getLogger("trackside.integrations")


class TracksideLogger(Logger):
    """Log a Trainer's or Fabric's metrics and hyperparameters into a trackside run.

    ``experiment_name``: default ``MLFLOW_EXPERIMENT_NAME``, else ``lightning_logs``.
    ``version``: the last part of the checkpoint folder, ``<save_dir>/<experiment_name>/<version>``. Default:
    the id of the SLURM job, else a new one for each logger.
    ``save_dir``: where that folder lies. Default: the Trainer's ``default_root_dir``.
    ``prefix``: goes before each metric's name, with a ``-``.
    ``flatten_depth``: levels of the hyperparameters that become params of their own (None: all).
    ``log_checkpoints``: True logs each checkpoint that a ``ModelCheckpoint`` saves, with what it monitors.
    ``"latest"`` and ``"end"`` are policies of :func:`trackside.log_checkpoint`.
    ``checkpoint_dir``, ``resume``: as for :func:`trackside.start`. A Trainer's checkpoints name their run
    anyway, and ``fit(ckpt_path=...)`` resumes it unless ``resume`` is False.
    The other arguments are those of :func:`trackside.start`.

    If the program has a run of its own, the logger logs into that one and never ends it.
    """

    LOGGER_JOIN_CHAR = "-"

    def __init__(  # noqa: PLR0917 - as Lightning's own loggers have them
        self,
        experiment_name: str | None = None,
        run_name: str | None = None,
        tracking_uri: str | os.PathLike[str] | None = None,
        tags: Mapping[str, Any] | None = None,
        description: str | None = None,
        save_dir: str | os.PathLike[str] | None = None,
        version: str | None = None,
        prefix: str = "",
        resume: bool | str = True,
        checkpoint_dir: str | os.PathLike[str] | None = None,
        artifact_location: str | os.PathLike[str] | None = None,
        flatten_depth: int | None = None,
        parent_run_id: str | None = None,
        sinks: Iterable[SinkOption] = (),
        destinations: Iterable[DestinationOption] = (),
        system_metrics: bool | float | None = None,
        bus: Bus | None = None,
        log_checkpoints: LogCheckpoints = False,
    ) -> None:
        super().__init__()
        self._policy = checkpoint_policy(log_checkpoints)
        self._logged_checkpoint: tuple[str, int] | None = None
        self._identity = LoggerIdentity(experiment_name, version, save_dir, checkpoint_dir)
        self._prefix = f"{prefix}{self.LOGGER_JOIN_CHAR}" if prefix else ""
        self._flatten_depth = flatten_depth
        options: dict[str, Any] = {
            "experiment_name": chosen_experiment(experiment_name),
            "run_name": run_name,
            "tracking_uri": tracking_uri,
            "tags": tags,
            "description": description,
            "artifact_location": artifact_location,
            "parent_run_id": parent_run_id,
            "sinks": tuple(sinks),
            "destinations": tuple(destinations),
            "system_metrics": system_metrics,
        }
        self._run = LoggerRun(options, self._identity, resume=resume, bus=bus)

    # Names, known at once

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self._identity.name

    @property
    def version(self) -> str:
        """The name of this training's folder."""
        return self._identity.version

    @property
    def save_dir(self) -> str | None:
        """Where folders of checkpoints are made, or None for the Trainer's ``default_root_dir``."""
        return self._identity.save_dir

    @property
    def root_dir(self) -> str | None:
        """The folder of the experiment, if ``save_dir`` is given."""
        return self._identity.root_dir

    @property
    def log_dir(self) -> str | None:
        """The folder of this training, if ``save_dir`` is given."""
        return self._identity.log_dir

    # The run

    @property
    def experiment(self) -> Run:
        """The run, on rank 0. Before it has begun, a stand-in for it, which begins it when you use it.

        On other ranks it is Lightning's experiment that takes every call and does nothing.
        """
        if is_other_rank():
            return cast("Run", no_experiment())
        return self._run.current or cast("Run", self._run.stand_in())

    @property
    def run_id(self) -> str | None:
        """The id of the run in MLflow, as ``experiment.run_id``: begins the run and waits for its id."""
        return self.begin().run_id

    def begin(self) -> Run:
        """Begin the run, or return the one that has begun. Raises what :func:`trackside.start` raises."""
        return self._run.begin()

    # What is logged

    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Log ``metrics`` at ``step``. Never raises once the run has begun."""
        if is_other_rank():
            return
        run = self._run.to_log()
        if run is not None:
            named = (
                {f"{self._prefix}{key}": value for key, value in metrics.items()} if self._prefix else metrics
            )
            run.log(named, step)

    def log_hyperparams(
        self,
        params: dict[str, Any] | Namespace | None,
        metrics: Mapping[str, Any] | None = None,
        *_args: Any,
        **_kwargs: Any,
    ) -> None:
        """Log ``params`` as the run's configuration, and ``metrics`` at step 0.

        Before the run has begun they are kept for it: the Trainer may yet load a checkpoint, which says which
        run that is.
        """
        if is_other_rank():
            return
        if params:
            self._run.configure(ConfigEvent(params, self._flatten_depth))
        if metrics:
            self.log_metrics(metrics, 0)

    # How a training ends

    def finalize(self, status: str) -> None:
        """Take note of how a ``fit``, ``validate`` or ``test`` has ended: see the module."""
        if status == "failed":
            self._run.fail("FAILED", sys.exc_info()[1])
        elif status == "aborted":
            self._run.fail("KILLED", sys.exc_info()[1])
        elif status == "finished" and in_slurm():
            self._run.postpone(LifecycleEvent("terminating", message="SLURM requeues the job"))
        else:
            self._run.rest()

    # What a checkpoint keeps

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Keep the run's id beside the checkpoints, in the file ``mlflow_run_id``. Log the checkpoint."""
        if is_other_rank():
            return
        folder = getattr(checkpoint_callback, "dirpath", None)
        if folder:
            self._run.keep_id_in(str(folder))
        if self._policy is not None:
            self._log_checkpoint(checkpoint_callback, self._policy)

    def _log_checkpoint(self, callback: Any, policy: UploadPolicy) -> None:
        saved, run = saved_by(callback, self), self._run.to_log()
        if saved is None or run is None:
            return
        moment = None if saved.step is None else (str(callback.dirpath), saved.step)
        if moment is None or moment != self._logged_checkpoint:  # last.ckpt is the same once more
            self._logged_checkpoint = moment
            metrics = {f"{self._prefix}{name}": value for name, value in saved.metrics.items()}
            run.emit(
                CheckpointEvent(
                    path=saved.path,
                    step=saved.step,
                    metrics=metrics,
                    metrics_step=saved.metrics_step,
                    policy=policy,
                )
            )

    def state_dict(self) -> dict[str, str]:
        """What a checkpoint keeps of the run: pass the logger to ``fabric.save``, as part of the state."""
        return state_of(self._run.current, self._identity.folder)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], checkpoint: str | os.PathLike[str] | None = None
    ) -> None:
        """Resume the run that the checkpoint is of. Call it before anything is logged.

        ``checkpoint``: the file that ``state_dict`` is from, if you know it.
        """
        if not self._run.resume_from(RunState.read(state_dict).found(checkpoint)):
            _log.warning(
                "the checkpoint names a run, but another one has begun: what is logged goes there. "
                "Load the checkpoint before you log metrics or use logger.experiment"
            )

    # Copies

    def __copy__(self) -> TracksideLogger:
        return self

    def __deepcopy__(self, _memo: object) -> TracksideLogger:
        """Itself: hyperparameters that hold the logger are copied, and the run is one."""
        return self
