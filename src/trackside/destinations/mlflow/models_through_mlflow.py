"""Logged models by MLflow's own client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.logged_models import LoggedModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trackside.destinations.mlflow.tracking import Run


class ModelsThroughMLflow:
    """The models of the store of ``client``, an ``MlflowClient``."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def find(self, experiment_id: str, tag: str, value: str) -> LoggedModel | None:
        found = self._client.search_logged_models(
            [experiment_id], filter_string=f"tags.`{tag}` = '{value}'", max_results=1
        )
        return next((_model_of(model) for model in found), None)

    def create(self, run: Run, name: str, *, tags: Mapping[str, str], model_type: str | None) -> LoggedModel:
        made = self._client.create_logged_model(
            run.info.experiment_id,
            name=name,
            source_run_id=run.info.run_id,
            tags=dict(tags),
            model_type=model_type,
        )
        return _model_of(made)

    def log_params(self, model_id: str, params: Mapping[str, str]) -> None:
        self._client.log_model_params(model_id, dict(params))

    def end(self, model_id: str, *, ready: bool) -> None:
        self._client.finalize_logged_model(model_id, "READY" if ready else "FAILED")

    def name_output(self, run_id: str, model_id: str, step: int) -> None:
        from mlflow.entities import LoggedModelOutput

        output: Any = LoggedModelOutput
        self._client.log_outputs(run_id, [output(model_id, step)])


def _model_of(found: Any) -> LoggedModel:
    params, pending = dict(found.params or {}), found.status == "PENDING"
    return LoggedModel(found.model_id, found.artifact_location or "", params, pending)
