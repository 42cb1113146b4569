"""Checkpoints and models, as MLflow's logged models: with step, metrics, params and the run they come from.

A model is made, named as an output of the run, given its params and metrics, filled with files, and only then
said to be ready. MLflow shows it as pending until then, and as failed if its files are rejected.

Invariants:

* One record becomes one model, however often the shipper is restarted in the middle: the record's tag is
  looked for before a model is made, and each further step looks at what is there.
* A model that is ready has all of its files.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trackside.errors import RejectedError
from trackside.names import (
    MAX_PARAM_VALUE_LENGTH,
    MAX_PARAMS_TAGS_PER_BATCH,
    chunks,
    valid_model_name,
    valid_name,
)
from trackside.system.once import Once
from trackside.tag_names import (
    ARTIFACT_TAG,
    SOURCE_COMMIT_TAG,
    SOURCE_NAME_TAG,
    SOURCE_TYPE_TAG,
    USER_TAG,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from trackside.bulk_store.points import Point
    from trackside.destinations.mlflow.artifacts.run_artifacts import ArtifactRun
    from trackside.destinations.mlflow.logged_models import LoggedModel
    from trackside.destinations.mlflow.tracking import Run
    from trackside.journal.format import ArtifactRecord

_OF_THE_PROGRAM = (USER_TAG, SOURCE_NAME_TAG, SOURCE_TYPE_TAG, SOURCE_COMMIT_TAG)
"""Tags of the run that MLflow's own ``log_model`` gives to its models, too."""

_told = Once()


def write_model(run: ArtifactRun, record: ArtifactRecord, content: Path | None) -> None:
    """Deliver the checkpoint or model of ``record``, whose file or folder is ``content``."""
    if content is None:
        raise RejectedError(f"the {record.kind} {record.place!r} has no file")
    page = run.connection.get_run()
    model = _found_or_made(run, record, page)
    models = run.connection.client.models
    try:
        _describe(run, record, model, page)
        _upload(run, record, content, model, page)
    except RejectedError:
        run.connection.call(models.end, model.model_id, ready=False)
        raise
    run.connection.call(models.end, model.model_id, ready=True)


def _found_or_made(run: ArtifactRun, record: ArtifactRecord, page: Run) -> LoggedModel:
    call, models = run.connection.call, run.connection.client.models
    mark = f"{run.connection.journal_id}/{record.seq}"
    found: LoggedModel | None = call(models.find, page.info.experiment_id, ARTIFACT_TAG, mark)
    if found is not None:
        return found
    name = _name(run, record)
    tags = {key: page.data.tags[key] for key in _OF_THE_PROGRAM if key in page.data.tags}
    made: LoggedModel = call(
        models.create,
        page,
        name,
        tags={**tags, ARTIFACT_TAG: mark},
        model_type="checkpoint" if record.kind == "checkpoint" else None,
    )
    return made


def _name(run: ArtifactRun, record: ArtifactRecord) -> str:
    wanted = str(record.details.get("name") or record.place)
    valid = valid_model_name(wanted)
    if valid != wanted and _told.is_first(wanted):
        run.notice(f"the model {wanted!r} has a name that MLflow does not take, so it is logged as {valid!r}")
    return valid


def _describe(run: ArtifactRun, record: ArtifactRecord, model: LoggedModel, page: Run) -> None:
    """Say what is not said yet: the model is an output of the run, its params, its metrics."""
    connection = run.connection
    if model.model_id not in page.data.models:
        connection.for_run(connection.client.models.name_output, model.model_id, record.step or 0)
    params = _params(record, page)
    missing = [(key, value) for key, value in params.items() if key not in model.params]
    for chunk in chunks(missing, MAX_PARAMS_TAGS_PER_BATCH):
        connection.call(connection.client.models.log_params, model.model_id, dict(chunk))
    points = list(_points(record, model, page))
    try:
        if points:
            connection.log_points_beside(points)
    except RejectedError as error:  # the files matter more
        run.notice(f"MLflow rejects the metrics of the {record.kind} {record.place!r}: {error}")


def _params(record: ArtifactRecord, page: Run) -> Mapping[str, str]:
    """The run's params, as MLflow's own ``log_model`` has it, and those of the model."""
    own = {valid_name(key): str(value) for key, value in _mapping(record, "params").items()}
    return {key: value[:MAX_PARAM_VALUE_LENGTH] for key, value in {**page.data.params, **own}.items()}


def _points(record: ArtifactRecord, model: LoggedModel, page: Run) -> Iterator[Point]:
    """The metrics of the model, which MLflow adds to those of the run.

    One that the run has at that step gets its time, so that it remains one point.
    """
    step = record.step or 0
    for name, value in _mapping(record, "metrics").items():
        key = valid_name(name)
        last = page.data.last.get(key)
        time = last[1] if last is not None and last[0] == step else record.timestamp_ms
        yield key, float(value), time, step, model.model_id, None, None


def _mapping(record: ArtifactRecord, name: str) -> Mapping[str, Any]:
    found = record.details.get(name)
    return found if isinstance(found, dict) else {}


def _upload(run: ArtifactRun, record: ArtifactRecord, content: Path, model: LoggedModel, page: Run) -> None:
    """Upload a folder's files as they lie in it, or a file under its own name."""
    place = replace(page, info=replace(page.info, artifact_uri=model.artifact_uri))
    if content.is_dir():
        run.upload_folder(content, "", to=place)
    else:
        run.upload(content, str(record.details.get("file") or content.name), to=place)
