"""The stores: one keeps only which runs and models were created, its registry and its artifacts nothing."""

from __future__ import annotations

import time
import uuid
from typing import Any

from mlflow.entities import (
    Experiment,
    LifecycleStage,
    LoggedModel,
    LoggedModelStatus,
    Run,
    RunData,
    RunInfo,
    RunStatus,
)
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.store.artifact.artifact_repo import ArtifactRepository
from mlflow.store.entities.paged_list import PagedList
from mlflow.store.model_registry.abstract_store import AbstractStore as AbstractRegistry
from mlflow.store.tracking.abstract_store import AbstractStore

from trackside.null_store import NULL_URI


def _now_ms() -> int:
    return int(time.time() * 1000)


class _Tracking(AbstractStore):
    """What MLflow's own API needs: experiments, runs and models that exist on request."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._experiments: dict[str, str] = {}
        self._models: dict[str, Any] = {}
        self._runs: dict[str, Any] = {}

    def get_experiment(self, experiment_id: Any) -> Any:
        """Every experiment exists."""
        return self._experiment(str(experiment_id), self._experiments.get(str(experiment_id), "null"))

    def get_experiment_by_name(self, experiment_name: str) -> Any:
        """Every name exists."""
        return self._experiment(self.create_experiment(experiment_name), experiment_name)

    def create_experiment(self, name: str, *_: Any, **__: Any) -> str:
        """Return an id, the same one for the same name."""
        found = next((key for key, known in self._experiments.items() if known == name), None)
        found = found or str(len(self._experiments) + 1)
        self._experiments[found] = name
        return found

    def create_run(
        self, experiment_id: Any, user_id: Any, start_time: Any, tags: Any, run_name: Any, *_: Any, **__: Any
    ) -> Any:
        """A run of that name, with the tags it was given."""
        make: Any = RunInfo
        run_id = uuid.uuid4().hex
        info = make(
            run_id=run_id,
            experiment_id=str(experiment_id),
            user_id=user_id or "",
            status=RunStatus.to_string(RunStatus.RUNNING),
            start_time=start_time or _now_ms(),
            end_time=None,
            lifecycle_stage=LifecycleStage.ACTIVE,
            artifact_uri=f"{NULL_URI}{run_id}",
            run_name=run_name or "",
        )
        self._runs[run_id] = Run(info, _data(tags))
        return self._runs[run_id]

    def get_run(self, run_id: str) -> Any:
        """Return the run as it was created. An unknown one is created."""
        return self._runs.get(run_id) or self.create_run("0", "", None, (), "")

    def update_run_info(self, run_id: str, *_: Any, **__: Any) -> Any:
        """The run is unchanged."""
        return self.get_run(run_id).info

    def create_logged_model(
        self, experiment_id: str, name: Any = None, source_run_id: Any = None, *_: Any, **__: Any
    ) -> Any:
        """A model without files."""
        make: Any = LoggedModel
        model_id = f"m-{uuid.uuid4().hex}"
        self._models[model_id] = make(
            experiment_id=experiment_id,
            model_id=model_id,
            name=name or "model",
            artifact_location=f"{NULL_URI}{model_id}",
            creation_timestamp=_now_ms(),
            last_updated_timestamp=_now_ms(),
            source_run_id=source_run_id,
            status=LoggedModelStatus.READY,
        )
        return self._models[model_id]

    def get_logged_model(self, model_id: str, *_: Any, **__: Any) -> Any:
        """The model, as it was made."""
        return self._models.get(model_id) or self.create_logged_model("0")

    def finalize_logged_model(self, model_id: str, *_: Any, **__: Any) -> Any:
        """The model is unchanged."""
        return self.get_logged_model(model_id)

    def start_trace(self, trace_info: Any) -> Any:
        """The trace, as it was given."""
        return trace_info

    def log_spans(self, location: str, spans: Any, tracking_uri: Any = None) -> Any:  # noqa: ARG002 - MLflow's
        """The spans, as they were given."""
        return spans

    def get_metric_history(self, *_: Any, **__: Any) -> Any:
        """No metric was kept."""
        return []

    @staticmethod
    def _experiment(experiment_id: str, name: str) -> Any:
        make: Any = Experiment
        return make(experiment_id, name, f"{NULL_URI}{experiment_id}", LifecycleStage.ACTIVE)


class _Registry(AbstractRegistry):
    """Registers nothing, and says that it is registered."""

    def __init__(self, *_: Any, **__: Any) -> None:
        pass

    def create_registered_model(self, name: str, *_: Any, **__: Any) -> Any:
        """A model of that name."""
        make: Any = RegisteredModel
        return make(name)

    def get_registered_model(self, name: str, *_: Any, **__: Any) -> Any:
        """A model of that name."""
        return self.create_registered_model(name)

    def create_model_version(self, name: str, *_: Any, **__: Any) -> Any:
        """The first version, which is ready."""
        make: Any = ModelVersion
        return make(name, "1", _now_ms(), status="READY")


def _data(tags: Any) -> Any:
    make: Any = RunData
    return make(metrics=[], params=[], tags=list(tags or ()))


def with_the_rest(store: type[Any]) -> type[Any]:
    """``store`` with every public method that it only inherits answering nothing, or an empty page.

    Which methods there are depends on MLflow's version. What is asynchronous is built on the others.
    """
    rest = {name: _answer(name) for name in dir(store) if _is_of_the_rest(store, name)}
    return type(store.__name__, (store,), rest)


def _is_of_the_rest(store: type[Any], name: str) -> bool:
    inherited = name not in vars(store) and callable(getattr(store, name, None))
    return inherited and not name.startswith("__") and "async" not in name


def _answer(name: str) -> Any:
    several = name.lstrip("_").startswith(("search_", "list_"))

    def answer(_self: Any, *_arguments: Any, **_options: Any) -> Any:
        return PagedList([], None) if several else None

    return answer


class NullArtifacts(ArtifactRepository):
    """An artifact repository that takes files and keeps none."""

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Nothing."""

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Nothing."""

    def list_artifacts(self, path: str | None = None) -> list[Any]:  # noqa: ARG002 - MLflow's signature
        """Empty."""
        return []

    def _download_file(self, remote_file_path: str, local_path: str) -> None:  # noqa: ARG002 - MLflow's signature
        raise FileNotFoundError(f"{remote_file_path}: files of a run that is not logged are not kept")


NullTracking: Any = with_the_rest(_Tracking)
"""The store for ``trackside+null:``."""

NullRegistry: Any = with_the_rest(_Registry)
"""Its model registry."""
