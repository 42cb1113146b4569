"""What the delivery asks of a tracking store, and the records it gets back.

Two clients do it: :class:`~trackside.destinations.mlflow.rest_client.RestClient` talks to a server by
MLflow's REST API, :class:`~trackside.destinations.mlflow.through_mlflow.ThroughMLflow` calls MLflow.
:func:`~trackside.destinations.mlflow.client_choice.why_mlflow` says which of them a store gets. Both keep to
this contract, so nothing else knows which one it has. Nothing here imports MLflow.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from trackside.bulk_store.points import Point
    from trackside.destinations.mlflow.begun_uploads import BegunUpload, BegunUploads
    from trackside.destinations.mlflow.logged_models import LoggedModels
    from trackside.destinations.mlflow.used_datasets import UsedDataset


@dataclass(frozen=True)
class RunDescription:
    """What MLflow calls a run's info. A text that the server leaves out is empty."""

    run_id: str
    experiment_id: str = ""
    run_name: str = ""
    status: str = ""
    start_time: int | None = None
    """Milliseconds since the epoch, as ``end_time``."""
    end_time: int | None = None
    artifact_uri: str = ""
    lifecycle_stage: str = ""


@dataclass(frozen=True)
class RunData:
    """What was logged to a run."""

    tags: Mapping[str, str] = field(default_factory=dict)
    params: Mapping[str, str] = field(default_factory=dict)
    last: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """The step and time of each metric's latest point."""
    models: Mapping[str, int] = field(default_factory=dict)
    """The logged models that the run has made, by id, with their steps."""


@dataclass(frozen=True)
class Run:
    """A run as the store shows it."""

    info: RunDescription
    data: RunData = field(default_factory=RunData)


@dataclass(frozen=True)
class Experiment:
    """An experiment as the store shows it."""

    experiment_id: str
    name: str = ""
    lifecycle_stage: str = ""


class TrackingClient(Protocol):
    """The calls that the delivery makes. Each raises what its library raises.

    :meth:`~trackside.destinations.mlflow.connection.Connection.call` translates it. A call that returns has
    reached the store. Several threads may call at once.
    """

    is_light: ClassVar[bool]
    """Whether it does without MLflow, except for artifacts that the server does not take."""

    models: LoggedModels

    def ping(self) -> None:
        """Make a small request."""

    def get_experiment(self, experiment_id: str) -> Experiment:
        """The experiment with this id, which may be deleted."""

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        """The experiment with this name, which may be deleted. None without one."""

    def create_experiment(self, name: str, *, artifact_location: str | None) -> str:
        """Create an experiment. Returns its id."""

    def get_run(self, run_id: str) -> Run:
        """The run, which may be deleted."""

    def search_runs(self, experiment_id: str, condition: str) -> Sequence[Run]:
        """The first thousand of the experiment's runs that meet ``condition`` and are not deleted."""

    def create_run(
        self, experiment_id: str, *, start_time: int, tags: Mapping[str, str], run_name: str | None
    ) -> Run:
        """Create a run. The store makes a name up if ``run_name`` is None."""

    def update_run(self, run_id: str, status: str, *, end_time: int | None = None) -> None:
        """Set the status, and when the run ended."""

    def delete_run(self, run_id: str) -> None:
        """Delete the run, which can be restored."""

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        """Set or replace a tag."""

    def delete_tag(self, run_id: str, key: str) -> None:
        """Delete a tag that exists."""

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        """Log at most 1000 points of metrics in one request."""

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        """Log at most 100 params in one request."""

    def log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Set at most 100 tags in one request."""

    def log_dataset(self, run_id: str, dataset: UsedDataset) -> None:
        """Say that the run uses a dataset. Changes nothing if the run has one of this name and digest."""

    def read_artifact(self, run: Run, name: str) -> str | None:
        """The text of an artifact. None if the run does not have it."""

    def write_artifact(self, run: Run, name: str, text: str) -> None:
        """Write or replace an artifact."""

    def upload_file(
        self,
        run: Run,
        source: Path,
        artifact_file: str,
        *,
        on_sent: Callable[[int], None] = ...,
        uploads: BegunUploads | None = ...,
    ) -> None:
        """Write or replace an artifact by the file ``source``, of any size.

        ``on_sent`` gets the bytes that went out since its last call, where that can be told. One of
        ``uploads`` that was interrupted is gone on with, where that can be done.
        """

    def take_back(self, begun: BegunUpload, uploads: BegunUploads) -> None:
        """Have the store forget an upload that is not gone on with."""

    def remove_artifact(self, run: Run, name: str) -> None:
        """Remove an artifact. Fails where the store keeps everything."""


def description_of(info: Any) -> RunDescription:
    """A run's info, in MLflow's classes or as a server answers it, as ours."""
    return RunDescription(
        run_id=info.run_id or "",
        experiment_id=info.experiment_id or "",
        run_name=info.run_name or "",
        status=info.status or "",
        start_time=info.start_time,
        end_time=info.end_time,
        artifact_uri=info.artifact_uri or "",
        lifecycle_stage=info.lifecycle_stage or "",
    )


def experiment_of(found: Any) -> Experiment:
    """An experiment, in MLflow's class or as a server answers it, as ours."""
    return Experiment(str(found.experiment_id or ""), found.name or "", found.lifecycle_stage or "")
