"""What a look at MLflow's store may find before a run is opened, in words. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Finding(NamedTuple):
    """What a first check found."""

    refusal: str | None = None
    """Why the run will never be opened as it was asked for, and what to do."""
    trouble: str | None = None
    """Why the server can't open it now."""


NOTHING = Finding()


def deleted_experiment(name: str, experiment_id: object) -> str:
    """What to say of an experiment that is deleted."""
    return (
        f"experiment {name!r} is deleted: restore it (mlflow experiments restore --experiment-id "
        f"{experiment_id}) or use another name"
    )


def deleted_run(run_id: str) -> str:
    """What to say of a run that the user named, and that is deleted."""
    return f"run {run_id!r} is deleted: restore it (mlflow runs restore --run-id {run_id}) or start a new one"
