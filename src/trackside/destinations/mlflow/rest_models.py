"""Logged models by MLflow's REST API. The bodies are those of ``mlflow/store/tracking/rest_store.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

import msgspec

from trackside.destinations.mlflow.errors import AnswerError
from trackside.destinations.mlflow.logged_models import LoggedModel, ModelsUnknownError
from trackside.destinations.mlflow.rest_session import Done

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trackside.destinations.mlflow.rest_session import RestSession
    from trackside.destinations.mlflow.tracking import Run

_MODELS = "/api/2.0/mlflow/logged-models"
_OUTPUTS = "/api/2.0/mlflow/runs/outputs"
_NO_SUCH_CALL = {404, 405}


class _Info(msgspec.Struct):
    model_id: str | None = None
    artifact_uri: str | None = None
    status: str | None = None


class _Param(msgspec.Struct):
    key: str | None = ""
    value: str | None = ""


class _Data(msgspec.Struct):
    params: list[_Param] | None = None


class _Model(msgspec.Struct):
    info: _Info | None = None
    data: _Data | None = None


class _ModelAnswer(msgspec.Struct):
    model: _Model | None = None


class _ModelsAnswer(msgspec.Struct):
    models: list[_Model] | None = None


class RestModels:
    """The models of the server of ``session``."""

    def __init__(self, session: RestSession) -> None:
        self._session = session

    def find(self, experiment_id: str, tag: str, value: str) -> LoggedModel | None:
        body = {"experiment_ids": [experiment_id], "filter": f"tags.`{tag}` = '{value}'", "max_results": 1}
        try:
            found = self._session.post(f"{_MODELS}/search", _ModelsAnswer, body)
        except AnswerError as error:
            if error.answer.status in _NO_SUCH_CALL and error.error_code in {None, "ENDPOINT_NOT_FOUND"}:
                raise ModelsUnknownError(str(error)) from error
            raise
        return next((_model_of(model) for model in found.models or ()), None)

    def create(self, run: Run, name: str, *, tags: Mapping[str, str], model_type: str | None) -> LoggedModel:
        body = {
            "experiment_id": run.info.experiment_id,
            "name": name,
            "source_run_id": run.info.run_id,
            "tags": _items(tags),
            **({} if model_type is None else {"model_type": model_type}),
        }
        return _model_of(self._session.post(_MODELS, _ModelAnswer, body).model)

    def log_params(self, model_id: str, params: Mapping[str, str]) -> None:
        body = {"model_id": model_id, "params": _items(params)}
        self._session.post(f"{_place(model_id)}/params", Done, body)

    def end(self, model_id: str, *, ready: bool) -> None:
        status = "LOGGED_MODEL_READY" if ready else "LOGGED_MODEL_UPLOAD_FAILED"
        self._session.patch(_place(model_id), _ModelAnswer, {"model_id": model_id, "status": status})

    def name_output(self, run_id: str, model_id: str, step: int) -> None:
        body = {"run_id": run_id, "models": [{"model_id": model_id, "step": step}]}
        self._session.post(_OUTPUTS, Done, body)


def _place(model_id: str) -> str:
    return f"{_MODELS}/{quote(model_id, safe='')}"


def _model_of(found: _Model | None) -> LoggedModel:
    found = found or _Model()
    info, data = found.info or _Info(), found.data or _Data()
    params = {param.key or "": param.value or "" for param in data.params or ()}
    pending = info.status == "LOGGED_MODEL_PENDING"
    return LoggedModel(info.model_id or "", info.artifact_uri or "", params, pending)


def _items(texts: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"key": key, "value": value} for key, value in texts.items()]
