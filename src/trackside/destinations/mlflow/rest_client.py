"""A tracking server reached by MLflow's public REST API, without MLflow.

See https://mlflow.org/docs/latest/api_reference/rest-api.html. The bodies are those of MLflow's own client
(``mlflow/store/tracking/rest_store.py``). Where it sends a run's id under its old name, too, so does this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import quote

import msgspec

from trackside.destinations.mlflow.batch_body import LOG_BATCH, metrics_body
from trackside.destinations.mlflow.begun_uploads import BegunUploads
from trackside.destinations.mlflow.client_choice import is_proxied
from trackside.destinations.mlflow.errors import AnswerError
from trackside.destinations.mlflow.file_body import FileBody
from trackside.destinations.mlflow.rest_models import RestModels
from trackside.destinations.mlflow.rest_session import Done, RestSession
from trackside.destinations.mlflow.stored_check import LISTED, require_listed
from trackside.destinations.mlflow.tracking import Experiment, Run, RunData, description_of, experiment_of
from trackside.destinations.mlflow.upload_in_parts import PartsUploader
from trackside.destinations.mlflow.used_datasets import CONTEXT_TAG
from trackside.tag_names import USER_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from trackside.bulk_store.points import Point
    from trackside.destinations.mlflow.begun_uploads import BegunUpload
    from trackside.destinations.mlflow.logged_models import LoggedModels
    from trackside.destinations.mlflow.tracking import TrackingClient
    from trackside.destinations.mlflow.used_datasets import UsedDataset

_API = "/api/2.0/mlflow"
_ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts"
_RUNS_IN_AN_ANSWER = 1000


def _note_nothing(_bytes: int) -> None:
    """Count nothing."""


class _Item(msgspec.Struct):
    key: str | None = ""
    value: str | None = ""


class _Metric(msgspec.Struct):
    key: str | None = ""
    step: int | None = 0
    timestamp: int | None = 0


class _Info(msgspec.Struct):
    run_id: str | None = None
    run_uuid: str | None = None
    experiment_id: str | None = None
    run_name: str | None = None
    status: str | None = None
    start_time: int | None = None
    end_time: int | None = None
    artifact_uri: str | None = None
    lifecycle_stage: str | None = None

    def __post_init__(self) -> None:
        self.run_id = self.run_id or self.run_uuid


class _Data(msgspec.Struct):
    tags: list[_Item] | None = None
    params: list[_Item] | None = None
    metrics: list[_Metric] | None = None


class _Output(msgspec.Struct):
    model_id: str | None = ""
    step: int | None = 0


class _Outputs(msgspec.Struct):
    model_outputs: list[_Output] | None = None


class _Run(msgspec.Struct):
    info: _Info | None = None
    data: _Data | None = None
    outputs: _Outputs | None = None


class _RunAnswer(msgspec.Struct):
    run: _Run | None = None


class _RunsAnswer(msgspec.Struct):
    runs: list[_Run] | None = None


class _Experiment(msgspec.Struct):
    experiment_id: str | None = None
    name: str | None = None
    lifecycle_stage: str | None = None


class _ExperimentAnswer(msgspec.Struct):
    experiment: _Experiment | None = None


class _Created(msgspec.Struct):
    experiment_id: str | None = None


class _File(msgspec.Struct):
    path: str | None = None
    file_size: int | None = None


class _Files(msgspec.Struct):
    files: list[_File] | None = None


class RestClient:
    """Calls the MLflow server at ``uri``."""

    is_light: ClassVar[bool] = True

    def __init__(self, uri: str) -> None:
        self._uri = uri
        self._session = RestSession(uri)
        self._parts = PartsUploader(self._session)
        self.models: LoggedModels = RestModels(self._session)
        self._mlflow: TrackingClient | None = None

    def ping(self) -> None:
        self._post("experiments/search", view_type="ACTIVE_ONLY", max_results=1)

    def get_experiment(self, experiment_id: str) -> Experiment:
        return self._experiment("get", experiment_id=experiment_id)

    def get_experiment_by_name(self, name: str) -> Experiment | None:
        try:
            return self._experiment("get-by-name", experiment_name=name)
        except AnswerError as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return None
            raise

    def create_experiment(self, name: str, *, artifact_location: str | None) -> str:
        location = {} if artifact_location is None else {"artifact_location": artifact_location}
        made = self._session.post(f"{_API}/experiments/create", _Created, {"name": name, **location})
        return made.experiment_id or ""

    def get_run(self, run_id: str) -> Run:
        found = self._session.get(f"{_API}/runs/get", _RunAnswer, run_uuid=run_id, run_id=run_id)
        return _run_of(found.run)

    def search_runs(self, experiment_id: str, condition: str) -> Sequence[Run]:
        body = {
            "experiment_ids": [experiment_id],
            "filter": condition,
            "run_view_type": "ACTIVE_ONLY",
            "max_results": _RUNS_IN_AN_ANSWER,
        }
        found = self._session.post(f"{_API}/runs/search", _RunsAnswer, body)
        return [_run_of(run) for run in found.runs or ()]

    def create_run(
        self, experiment_id: str, *, start_time: int, tags: Mapping[str, str], run_name: str | None
    ) -> Run:
        body = {
            "experiment_id": experiment_id,
            "user_id": tags.get(USER_TAG, "unknown"),
            "start_time": start_time,
            "tags": _items(tags),
            **({} if run_name is None else {"run_name": run_name}),
        }
        return _run_of(self._session.post(f"{_API}/runs/create", _RunAnswer, body).run)

    def update_run(self, run_id: str, status: str, *, end_time: int | None = None) -> None:
        end = {} if end_time is None else {"end_time": end_time}
        self._post("runs/update", run_uuid=run_id, run_id=run_id, status=status, **end)

    def delete_run(self, run_id: str) -> None:
        self._post("runs/delete", run_id=run_id)

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self._post("runs/set-tag", run_uuid=run_id, run_id=run_id, key=key, value=value)

    def delete_tag(self, run_id: str, key: str) -> None:
        self._post("runs/delete-tag", run_id=run_id, key=key)

    def log_points(self, run_id: str, points: Sequence[Point]) -> None:
        self._session.post(LOG_BATCH, Done, metrics_body(run_id, points))

    def log_params(self, run_id: str, params: Mapping[str, str]) -> None:
        self._post("runs/log-batch", run_id=run_id, params=_items(params))

    def log_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        self._post("runs/log-batch", run_id=run_id, tags=_items(tags))

    def log_dataset(self, run_id: str, dataset: UsedDataset) -> None:
        described = msgspec.structs.asdict(dataset)
        context = described.pop("context")
        tags = {} if context is None else {CONTEXT_TAG: context}
        shown = {name: text for name, text in described.items() if text is not None}
        self._post("runs/log-inputs", run_id=run_id, datasets=[{"dataset": shown, "tags": _items(tags)}])

    def read_artifact(self, run: Run, name: str) -> str | None:
        if not is_proxied(run.info.artifact_uri):
            return self._through_mlflow().read_artifact(run, name)
        if self._listed(run, name) is None:
            return None
        return self._session.fetch(_artifact(run, name)).decode("utf-8")

    def write_artifact(self, run: Run, name: str, text: str) -> None:
        if is_proxied(run.info.artifact_uri):
            self._session.put(_artifact(run, name), text.encode())
        else:
            self._through_mlflow().write_artifact(run, name, text)

    def upload_file(
        self,
        run: Run,
        source: Path,
        artifact_file: str,
        *,
        on_sent: Callable[[int], None] = _note_nothing,
        uploads: BegunUploads | None = None,
    ) -> None:
        if not is_proxied(run.info.artifact_uri):
            self._through_mlflow().upload_file(run, source, artifact_file, on_sent=on_sent)
            return
        body, place = FileBody(source, on_sent=on_sent), _place(run, artifact_file)
        size = len(body)
        begun = uploads or BegunUploads()
        in_parts = self._parts.takes(size) and self._parts.upload(source, size, place, on_sent, begun)
        if not in_parts:
            self._session.put_file(_artifact(run, artifact_file), body)
        if size >= LISTED:
            require_listed(artifact_file, size, self._listed(run, artifact_file))

    def take_back(self, begun: BegunUpload, uploads: BegunUploads) -> None:
        self._parts.take_back(begun, uploads)

    def _listed(self, run: Run, name: str) -> _File | None:
        """What the server's list of the run's artifacts says of ``name``."""
        folder, _, file = _place(run, name).rpartition("/")
        listed = self._session.get(_ARTIFACTS, _Files, path=folder).files or ()
        return next((item for item in listed if (item.path or "").rpartition("/")[2] == file), None)

    def remove_artifact(self, run: Run, name: str) -> None:
        if is_proxied(run.info.artifact_uri):
            self._session.delete(_artifact(run, name))
        else:
            self._through_mlflow().remove_artifact(run, name)

    def _post(self, call: str, **body: Any) -> None:
        self._session.post(f"{_API}/{call}", Done, body)

    def _experiment(self, call: str, **parameters: str) -> Experiment:
        answer = self._session.get(f"{_API}/experiments/{call}", _ExperimentAnswer, **parameters)
        return experiment_of(answer.experiment or _Experiment())

    def _through_mlflow(self) -> TrackingClient:
        """MLflow's client, for a store of artifacts that only MLflow can reach."""
        if self._mlflow is None:
            from trackside.destinations.mlflow.through_mlflow import ThroughMLflow

            self._mlflow = ThroughMLflow(self._uri)
        return self._mlflow


def _run_of(found: _Run | None) -> Run:
    found = found or _Run()
    data = found.data or _Data()
    last = {metric.key or "": (metric.step or 0, metric.timestamp or 0) for metric in data.metrics or ()}
    made = {one.model_id or "": one.step or 0 for one in (found.outputs or _Outputs()).model_outputs or ()}
    return Run(
        description_of(found.info or _Info()), RunData(_texts(data.tags), _texts(data.params), last, made)
    )


def _texts(items: list[_Item] | None) -> dict[str, str]:
    return {item.key or "": item.value or "" for item in items or ()}


def _items(texts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in texts.items()]


def _artifact(run: Run, name: str) -> str:
    """The endpoint of a run's artifact."""
    return f"{_ARTIFACTS}/{quote(_place(run, name))}"


def _place(run: Run, name: str) -> str:
    """Where a run's artifact lies below the server's artifacts. Its address is ``mlflow-artifacts:/...``."""
    root = run.info.artifact_uri.partition(":")[2].strip("/")
    return f"{root}/{name}".lstrip("/")
