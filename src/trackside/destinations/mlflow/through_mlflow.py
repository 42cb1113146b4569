"""A tracking store reached through MLflow's own client: databases, folders, and servers with plug-ins.

Importing MLflow takes two seconds and 80 MiB, so only what needs it comes here
(:mod:`trackside.destinations.mlflow.client_choice`). Metrics take a shorter way than MLflow's client, which
makes three objects of each, then JSON through protocol buffers: 28 µs of Python, about as much as it costs a
server with the bulk store. For a server only the body is made here (:func:`metrics_request`).

This is the only file of the destinations that uses private names of MLflow.
"""

from __future__ import annotations

import os
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import msgspec

from trackside.destinations.mlflow.address import is_server
from trackside.destinations.mlflow.batch_body import LOG_BATCH, metrics_body
from trackside.destinations.mlflow.importing import import_mlflow
from trackside.destinations.mlflow.models_through_mlflow import ModelsThroughMLflow
from trackside.destinations.mlflow.stored_check import check_stored
from trackside.destinations.mlflow.tracking import (
    Experiment,
    Run,
    RunData,
    description_of,
    experiment_of,
)
from trackside.destinations.mlflow.used_datasets import CONTEXT_TAG
from trackside.errors import RetryableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trackside.bulk_store.points import Point
    from trackside.destinations.mlflow.begun_uploads import BegunUpload, BegunUploads
    from trackside.destinations.mlflow.logged_models import LoggedModels
    from trackside.destinations.mlflow.used_datasets import UsedDataset

_OK = 200

_uploading = threading.Lock()


def _note_nothing(_bytes: int) -> None:
    """Count nothing."""


class ThroughMLflow:
    """Calls MLflow's client for the store at ``uri``. The first one made imports MLflow."""

    is_light: ClassVar[bool] = False

    def __init__(self, uri: str) -> None:
        import_mlflow()
        from mlflow.entities import Metric, Param, RunTag
        from mlflow.tracking import MlflowClient

        self._uri = uri
        self._client = client = MlflowClient(tracking_uri=uri)
        self.models: LoggedModels = ModelsThroughMLflow(client)
        self._metric: Callable[..., Any] = Metric
        self._param: Callable[..., Any] = Param
        self._tag: Callable[..., Any] = RunTag
        self._request = metrics_request(client) if is_server(uri) else None

    def ping(self) -> None:
        self._client.search_experiments(max_results=1)

    def get_experiment(self, experiment_id: str) -> Experiment:
        return experiment_of(self._client.get_experiment(experiment_id))

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        found = self._client.get_experiment_by_name(name)
        return None if found is None else experiment_of(found)

    def create_experiment(self, name: str, *, artifact_location: str | None) -> str:
        return str(self._client.create_experiment(name, artifact_location=artifact_location))

    def get_run(self, run_id: str) -> Run:
        return _run_of(self._client.get_run(run_id))

    def search_runs(self, experiment_id: str, condition: str) -> Sequence[Run]:
        return [_run_of(found) for found in self._client.search_runs([experiment_id], condition)]

    def create_run(
        self, experiment_id: str, *, start_time: int, tags: Mapping[str, str], run_name: str | None
    ) -> Run:
        made = self._client.create_run(
            experiment_id, start_time=start_time, tags=dict(tags), run_name=run_name
        )
        return _run_of(made)

    def update_run(self, run_id: str, status: str, *, end_time: int | None = None) -> None:
        if end_time is None:
            self._client.update_run(run_id, status)
        else:
            self._client.set_terminated(run_id, status=status, end_time=end_time)

    def delete_run(self, run_id: str) -> None:
        self._client.delete_run(run_id)

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self._client.set_tag(run_id, key, value)

    def delete_tag(self, run_id: str, key: str) -> None:
        self._client.delete_tag(run_id, key)

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        if self._request is not None:
            self._request(run_id, points)
        else:
            self._client.log_batch(run_id, metrics=[self._metric(*point) for point in points])

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        self._client.log_batch(run_id, params=[self._param(*item) for item in params.items()])

    def log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._client.log_batch(run_id, tags=[self._tag(*item) for item in tags.items()])

    def log_dataset(self, run_id: str, dataset: UsedDataset) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        described = msgspec.structs.asdict(dataset)
        context = described.pop("context")
        tags = [] if context is None else [InputTag(CONTEXT_TAG, context)]
        self._client.log_inputs(run_id, [DatasetInput(Dataset(**described), tags)])

    def read_artifact(self, run: Run, name: str) -> str | None:
        with _uploading:
            self._name_the_server()
            listed = self._client.list_artifacts(run.info.run_id, name.rpartition("/")[0] or None)
            if all(item.path != name for item in listed):
                return None
            with tempfile.TemporaryDirectory(prefix="trackside-") as place:
                path = self._client.download_artifacts(run.info.run_id, name, place)
                return Path(path).read_text("utf-8")

    def write_artifact(self, run: Run, name: str, text: str) -> None:
        with _uploading:
            self._name_the_server()
            self._client.log_text(run.info.run_id, text, name)

    def upload_file(
        self,
        run: Run,
        source: Path,
        artifact_file: str,
        *,
        on_sent: Callable[[int], None] = _note_nothing,
        uploads: BegunUploads | None = None,  # noqa: ARG002 - MLflow's own uploads begin anew
    ) -> None:
        folder, _, name = artifact_file.rpartition("/")
        repository = self._repository(run)
        with tempfile.TemporaryDirectory(prefix="trackside-") as place:
            named = Path(place, name)  # MLflow uploads a file under the name that it has
            named.symlink_to(source)
            repository.log_artifact(str(named), folder or None)
        check_stored(repository, source, artifact_file)
        on_sent(source.stat().st_size)

    def take_back(self, begun: BegunUpload, uploads: BegunUploads) -> None:
        uploads.forget(begun)

    def remove_artifact(self, run: Run, name: str) -> None:
        self._repository(run).delete_artifacts(name)

    def _repository(self, run: Run) -> Any:
        """What MLflow writes the run's artifacts through."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        with _uploading:
            self._name_the_server()
            return get_artifact_repository(run.info.artifact_uri, self._uri)

    def _name_the_server(self) -> None:
        """MLflow 3.6 uploads to the server it finds in the environment, not to the client's."""
        os.environ["MLFLOW_TRACKING_URI"] = self._uri


def _run_of(found: Any) -> Run:
    last = {one.key: (int(one.step), int(one.timestamp)) for one in _last_points(found.data)}
    outputs = found.outputs.model_outputs if found.outputs else ()
    made = {output.model_id: output.step for output in outputs or ()}
    data = RunData(dict(found.data.tags), dict(found.data.params), last, made)
    return Run(description_of(found.info), data)


def _last_points(data: Any) -> Any:
    """The last point of each metric.

    A database can have a step like 1.5 (``log_metric(..., step=epoch)``), which MLflow's messages can't hold.
    """
    points = getattr(data, "_metric_objs", None)
    return data.to_proto().metrics if points is None else points


def metrics_request(client: Any) -> Callable[[str, Sequence[Point]], None] | None:
    """A function that logs points of a run to the server of ``client``, an ``MlflowClient``, or None.

    It raises what MLflow's client raises. The address, credentials, headers, session, retries and the check
    of the answer are MLflow's. 3.6 and 3.17 have the same private names. If one is missing, or the client has
    another kind of store, the client's ``log_batch`` is used.
    """
    try:
        from mlflow import get_active_model_id
        from mlflow.store.tracking.rest_store import RestStore
        from mlflow.utils.rest_utils import http_request, verify_rest_response

        store = client._tracking_client.store  # noqa: SLF001
        if type(store) is not RestStore or get_active_model_id() is not None:
            return None
        host_credentials = store.get_host_creds
    except (ImportError, AttributeError):
        return None
    post: Callable[..., Any] = http_request
    check: Callable[..., Any] = verify_rest_response

    def request(run_id: str, points: Sequence[Point]) -> None:
        response = post(
            host_credentials(),
            LOG_BATCH,
            "POST",
            data=metrics_body(run_id, points),
            extra_headers={"Content-Type": "application/json"},
        )
        if response.status_code == _OK and not response.text.strip():
            # MLflow's check takes it for its own answer, which is a JSON object, an empty one at least.
            raise RetryableError("the answer is empty, so it is not MLflow's: is there a proxy in between?")
        check(response, LOG_BATCH)

    return request
