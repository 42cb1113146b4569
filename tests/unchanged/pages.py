"""Everything that MLflow shows of a store, as plain data that two stores can be compared by.

Ids, moments and folders differ by nature: the ids of a run, a model, a trace or an experiment are replaced by
what names them, the others left out. What trackside adds is left out, too.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import mlflow
import pytest
from mlflow.artifacts import download_artifacts
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient

from trackside.destinations.mlflow.tags import without_end

if TYPE_CHECKING:
    from pathlib import Path

    from mlflow.entities import Run

OURS = ("trackside.", "trackside/")
MADE_UP = re.compile(r"\b[a-z]+-[a-z]+-\d{1,3}\b")
"""A name of a run that MLflow makes up."""

SLACK = 60_000
"""Milliseconds. Some of MLflow's own integrations log points of a run that they began at another moment."""

MEASURED = re.compile(r".*(_runtime|_per_second|[_/](seconds|time))")
"""Metrics that are times of the machine."""

MEASURED_FILES = {"cv_results.csv", "estimator.html"}
"""Files with times of the machine, or with ids that are drawn."""

VARYING = re.compile(
    r"(?P<time>\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[.\d]*)"
    r"|(?P<id>\b[0-9a-f]{32}\b|\b[mtr]+-[0-9a-f]{32}\b|[0-9a-z][0-9a-f]{7}(-[0-9a-f]{4}){3}-[0-9a-f]{12})"
    r"|(?P<number>\b\d{12,19}\b)"
)
"""What differs between two runs of one program."""


def pages_of(uri: str, scratch: Path, only: str | None = None) -> dict[str, Any]:
    """Experiments, their runs, models and traces, and the models that are registered.

    ``only``: the experiment that is wanted, in a store that others use, too.
    """
    with pytest.MonkeyPatch.context() as patch:  # MLflow sets it, too, for the process and what it starts
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        mlflow.set_tracking_uri(uri)
        try:
            return _pages(MlflowClient(uri), scratch, only)
        finally:
            mlflow.set_tracking_uri(None)  # type: ignore[arg-type]


def _pages(client: MlflowClient, scratch: Path, only: str | None) -> dict[str, Any]:
    found = [one for one in client.search_experiments(ViewType.ALL) if only in {None, one.name}]
    return {
        "experiments": {
            one.name: {
                "stage": one.lifecycle_stage,
                "tags": one.tags,
                "runs": _runs(client, one.experiment_id, scratch),
                "models": _models(client, one.experiment_id),
                "traces": _traces(client, one.experiment_id),
            }
            for one in found
        },
        "registered": sorted(
            (
                model.name,
                sorted(version.version for version in client.search_model_versions(f"name='{model.name}'")),
            )
            for model in client.search_registered_models()
        ),
    }


def _runs(client: MlflowClient, experiment: str, scratch: Path) -> list[dict[str, Any]]:
    runs = client.search_runs([experiment], run_view_type=ViewType.ALL, max_results=5000)
    names = {run.info.run_id: _steady(str(run.info.run_name)) for run in runs}
    return sorted(
        (_run(client, run, names, scratch) for run in runs),
        key=lambda one: (one["name"], json.dumps(one, sort_keys=True)),
    )


def _run(client: MlflowClient, run: Run, names: dict[str, str], scratch: Path) -> dict[str, Any]:
    run_id = run.info.run_id
    tags = {key: value for key, value in run.data.tags.items() if not key.startswith(OURS)}
    note = without_end(tags.pop("mlflow.note.content", ""))
    if note:
        tags["mlflow.note.content"] = note
    parent = tags.pop("mlflow.parentRunId", None)
    points = [(key, point) for key in run.data.metrics for point in client.get_metric_history(run_id, key)]
    ended = run.info.end_time
    first, last = run.info.start_time - SLACK, (ended or run.info.start_time) + SLACK
    inside = [first <= point.timestamp <= last for _, point in points]
    return {
        "name": _steady(str(run.info.run_name)),
        "parent": None if parent is None else names.get(parent, "elsewhere"),
        "status": run.info.status,
        "stage": run.info.lifecycle_stage,
        "user": run.info.user_id,
        "ended": ended is not None,
        "params": _steady(run.data.params),
        "latest": {key: _value(key, value) for key, value in sorted(run.data.metrics.items())},
        "points": sorted([key, point.step, _value(key, point.value)] for key, point in points),
        "points in the run's time": [inside.count(True), inside.count(False)],
        "linked": sorted(
            Counter(f"{key} {bool(point.model_id)} {point.dataset_name}" for key, point in points).items()
        ),
        "tags": {key: _steady(value) for key, value in sorted(tags.items())},
        "datasets": sorted(
            [
                one.dataset.name,
                one.dataset.digest,
                one.dataset.source_type,
                *sorted(f"{tag.key}={tag.value}" for tag in one.tags),
            ]
            for one in (run.inputs.dataset_inputs if run.inputs else ())
        ),
        "model inputs": len(run.inputs.model_inputs if run.inputs else ()),
        "model outputs": sorted(one.step for one in (run.outputs.model_outputs if run.outputs else ())),
        "files": _files(client, run_id, scratch),
    }


def _value(key: str, value: float) -> str:
    return "measured" if MEASURED.fullmatch(key) else repr(value)


def _files(client: MlflowClient, run_id: str, scratch: Path) -> dict[str, str]:
    """Every artifact of a run by its path: what is in a text, and the kind and size of another."""
    if not client.list_artifacts(run_id):
        return {}
    folder = scratch / run_id
    folder.mkdir(parents=True)
    download_artifacts(
        run_id=run_id, artifact_path="", dst_path=str(folder), tracking_uri=client.tracking_uri
    )
    paths = [(file, str(file.relative_to(folder))) for file in folder.rglob("*") if file.is_file()]
    return {_steady(path): _content(file) for file, path in sorted(paths) if not path.startswith(OURS)}


def _content(file: Path) -> str:
    if file.name in MEASURED_FILES:
        return "measured"
    data = file.read_bytes()
    try:
        text = _steady(data.decode())
    except UnicodeDecodeError:
        return (
            f"{len(data) // 4096} pages"
            if file.suffix not in {".png", ".npy"}
            else hashlib.sha256(data).hexdigest()
        )
    return str(text) if len(str(text)) < 2000 else hashlib.sha256(str(text).encode()).hexdigest()


def _models(client: MlflowClient, experiment: str) -> list[dict[str, Any]]:
    models = client.search_logged_models([experiment])
    return sorted(
        (
            {
                "name": one.name,
                "type": one.model_type,
                "status": str(one.status),
                "params": one.params,
                "tags": {
                    key: _steady(value) for key, value in one.tags.items() if not key.startswith("mlflow.")
                },
                "has run": one.source_run_id is not None,
                "metrics": sorted(
                    [metric.key, metric.step, repr(metric.value), str(metric.dataset_name)]
                    for metric in one.metrics or ()
                ),
            }
            for one in models
        ),
        key=lambda one: json.dumps(one, sort_keys=True),
    )


def _traces(client: MlflowClient, experiment: str) -> list[Any]:
    traces = client.search_traces(locations=[experiment])
    return sorted(
        [
            str(one.info.status),
            [span.name for span in one.data.spans],
            "mlflow.sourceRun" in (one.info.trace_metadata or {}),
        ]
        for one in traces
    )


def _steady(value: Any) -> Any:
    """``value`` without what differs between two runs of one program."""
    if isinstance(value, dict):
        return {key: _steady(one) for key, one in sorted(value.items())}
    text = VARYING.sub(lambda match: f"<{match.lastgroup}>", str(value))
    return MADE_UP.sub("<made up>", text)
