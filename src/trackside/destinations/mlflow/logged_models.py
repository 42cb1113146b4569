"""What the delivery asks of a store about logged models, MLflow's records of models and checkpoints.

As :mod:`~trackside.destinations.mlflow.tracking`, with the same two ways:
:class:`~trackside.destinations.mlflow.rest_models.RestModels` and
:class:`~trackside.destinations.mlflow.models_through_mlflow.ModelsThroughMLflow`. Nothing here imports
MLflow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from trackside.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trackside.destinations.mlflow.tracking import Run


@dataclass(frozen=True)
class LoggedModel:
    """A model as the store shows it."""

    model_id: str
    artifact_uri: str = ""
    """Where its files are. No run's artifacts lie there."""
    params: Mapping[str, str] = field(default_factory=dict)
    is_pending: bool = False
    """Whether it is not said yet that its files are there, or that it failed."""


class ModelsUnknownError(RejectedError):
    """The server knows no logged models: MLflow 2, or a proxy that lets only some requests pass."""


class LoggedModels(Protocol):
    """The calls about models. Each raises what its library raises."""

    def find(self, experiment_id: str, tag: str, value: str) -> LoggedModel | None:
        """A model of the experiment that has this tag. None without one, and for one that was deleted.

        Raises :class:`ModelsUnknownError`.
        """

    def create(self, run: Run, name: str, *, tags: Mapping[str, str], model_type: str | None) -> LoggedModel:
        """Create a model that comes from ``run``. It is pending until :meth:`end`."""

    def log_params(self, model_id: str, params: Mapping[str, str]) -> None:
        """Log at most 100 params that the model does not have, in one request."""

    def end(self, model_id: str, *, ready: bool) -> None:
        """Say that all files of the model are there, or else that it failed."""

    def name_output(self, run_id: str, model_id: str, step: int) -> None:
        """Say that the run has made the model at ``step``. Fails if that is said already."""
