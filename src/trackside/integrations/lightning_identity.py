"""What is known of a Lightning logger before its run: names, folders, and where its run's id is kept."""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
import weakref

from trackside.settings import read_environment

DEFAULT_EXPERIMENT = "lightning_logs"
"""What Lightning's own loggers are called."""


class LoggerIdentity:
    """A logger's names and folders. Its pickle is the same logger in another process.

    ``folder`` is where the run's id is kept: ``checkpoint_dir`` if that is given, else a folder of this
    logger alone, which is removed at the end. Through it the workers of ``ddp_spawn`` find the run.
    """

    def __init__(
        self,
        experiment_name: str | None,
        version: str | None,
        save_dir: str | os.PathLike[str] | None,
        checkpoint_dir: str | os.PathLike[str] | None,
    ) -> None:
        self.name = chosen_experiment(experiment_name) or _numbered_experiment()
        self.version = str(
            version or _slurm_job() or f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
        )
        self.save_dir = None if save_dir is None else os.fspath(save_dir)
        self.is_private = checkpoint_dir is None
        self.folder = _private_folder() if checkpoint_dir is None else os.fspath(checkpoint_dir)
        if self.is_private:
            weakref.finalize(self, _remove, self.folder, os.getpid())

    @property
    def root_dir(self) -> str | None:
        """The experiment's folder."""
        return None if self.save_dir is None else os.path.join(self.save_dir, self.name)

    @property
    def log_dir(self) -> str | None:
        """The training's folder."""
        return None if self.root_dir is None else os.path.join(self.root_dir, self.version)


def chosen_experiment(given: str | None) -> str | None:
    """The experiment's name, or None if the environment names one by its id alone."""
    settings = read_environment()
    if given or settings.experiment_name:
        return given or settings.experiment_name
    return None if settings.experiment_id else DEFAULT_EXPERIMENT


def in_slurm() -> bool:
    """Whether SLURM runs this job, so that it may be requeued."""
    return _slurm_job() is not None


def _numbered_experiment() -> str:
    return f"experiment-{read_environment().experiment_id}"


def _slurm_job() -> str | None:
    """The job's id, which a requeued job keeps. An interactive shell's jobs all have the shell's."""
    if os.environ.get("SLURM_JOB_NAME") in {"bash", "interactive"}:
        return None
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    return f"{array}_{task}" if array and task else os.environ.get("SLURM_JOB_ID")


def _private_folder() -> str:
    """A name that cannot be guessed. The folder is made when a run is opened."""
    return os.path.join(tempfile.gettempdir(), f"trackside-logger-{secrets.token_hex(16)}")


def _remove(folder: str, process: int) -> None:
    if os.getpid() == process:
        shutil.rmtree(folder, ignore_errors=True)
