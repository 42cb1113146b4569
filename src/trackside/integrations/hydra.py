"""Hydra: a run for each job, and in a multirun a parent run for the sweep.

In your configuration::

    hydra:
      callbacks:
        trackside:
          _target_: trackside.integrations.hydra.TracksideCallback

Invariants:

* A job that raises is FAILED with its exception, though Hydra catches it. One that is interrupted never tells
  the callback, and ends as every run.
* A sweep is FAILED if it did not get to its end.
* Jobs may run in other processes or on other machines. They find the sweep's run through a file in the
  sweep's folder.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackside.event_bus.bus import Bus
from trackside.integrations.missing import needs_extra
from trackside.integrations.training_run import TrainingRun
from trackside.journal.files import write_atomically
from trackside.session.start import start

with needs_extra("hydra"):
    from hydra.core.utils import JobStatus
    from hydra.experimental.callback import Callback
    from omegaconf import DictConfig, OmegaConf

if TYPE_CHECKING:
    from hydra.core.utils import JobReturn

    from trackside.events import FinalStatus
    from trackside.session.run import Run

logger = logging.getLogger("trackside.integrations")

RUN_FILE = ".trackside_run_id"
"""In the sweep's folder: the id of the sweep's run."""

_sweeps: dict[str, Run] = {}
"""The sweeps of this process, by their folder."""


class TracksideCallback(Callback):
    """Logs each job.

    ``options``: those of ``trackside.start()``. The experiment is named after the job (``hydra.job.name``),
    unless you name another. The job's configuration is the run's, and the overrides are tags.
    """

    def __init__(self, **options: Any) -> None:
        self._options = {
            key: OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
            for key, value in options.items()
        }
        self._training: TrainingRun | None = None
        self._is_child = False

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        """Begin the run of the sweep."""
        folder = _sweep_folder(config)
        options = {"experiment_name": config.hydra.job.name, "run_name": Path(folder).name, **self._options}
        options["tags"] = {**(options.get("tags") or {}), **_override_tags(config)}
        run = start(**options, bus=Bus("a Hydra sweep"))
        _sweeps[folder] = run
        if not _runs_here(config) and run.run_id is not None:
            os.makedirs(folder, exist_ok=True)
            write_atomically(Path(folder) / RUN_FILE, run.run_id.encode())

    def on_multirun_end(self, config: DictConfig, **_: Any) -> None:
        """End the run of the sweep. This is not called if the sweep has failed."""
        run = _sweeps.pop(_sweep_folder(config), None)
        if run is not None:
            run.finish()

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        """Begin the run of a job, or log into the one that the program has."""
        parent = _parent_of(config)
        self._is_child = bool(parent)
        options = {"experiment_name": config.hydra.job.name, **self._options}
        options["tags"] = {**(options.get("tags") or {}), **_override_tags(config), **_job_tags(config)}
        if self._is_child:  # a name of your own would be that of every job
            job = config.hydra.job
            options["run_name"] = job.get("override_dirname") or str(job.get("num", ""))
        self._training = TrainingRun()
        self._training.begin(**options, **parent, config=_task_config(config))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        """End the run of a job, as the job has ended."""
        training, self._training = self._training, None
        if training is None or training.run is None or not training.is_ours:
            return
        failed = job_return.status is JobStatus.FAILED
        error = getattr(job_return, "_return_value", None) if failed else None
        error = error if isinstance(error, BaseException) else None
        status: FinalStatus = "FAILED" if failed else "FINISHED"
        if not self._is_child:
            training.finish(status, error=error)
            return
        training.complete()
        training.run.finish(status, error=error, wait=False)


def _parent_of(config: DictConfig) -> dict[str, Any]:
    """What nests a job's run under that of its sweep. Empty for a single job."""
    if str(OmegaConf.select(config, "hydra.mode", default="RUN")).rpartition(".")[2] != "MULTIRUN":
        return {}
    folder = _sweep_folder(config)
    if folder in _sweeps:
        return {"parent": _sweeps[folder]}
    try:
        return {"parent_run_id": (Path(folder) / RUN_FILE).read_text("utf-8").strip()}
    except OSError:
        logger.warning("the run of the sweep in %s is not known here, so this job has no parent run", folder)
        return {}


def _sweep_folder(config: DictConfig) -> str:
    return os.path.abspath(os.path.join(config.hydra.runtime.cwd, str(config.hydra.sweep.dir)))


def _runs_here(config: DictConfig) -> bool:
    """Whether the launcher runs the jobs in this process."""
    target = OmegaConf.select(config, "hydra.launcher._target_", default="")
    return str(target).endswith("BasicLauncher")


def _task_config(config: DictConfig) -> Any:
    """The job's own configuration, with what can be resolved."""
    own = OmegaConf.masked_copy(config, [str(key) for key in config if key != "hydra"])
    try:
        return OmegaConf.to_container(own, resolve=True)
    except Exception:  # a value that is missing, or an interpolation that needs the job itself
        return OmegaConf.to_container(own, resolve=False)


def _override_tags(config: DictConfig) -> dict[str, str]:
    overrides = OmegaConf.to_container(config.hydra.overrides.task)
    return {"hydra.overrides": " ".join(str(override) for override in overrides)} if overrides else {}


def _job_tags(config: DictConfig) -> dict[str, str]:
    number = OmegaConf.select(config, "hydra.job.num", default=None, throw_on_missing=False)
    tags = {"hydra.output_dir": str(config.hydra.runtime.output_dir)}
    return tags if number is None else {**tags, "hydra.job_num": str(number)}
