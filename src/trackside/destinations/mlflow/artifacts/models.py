"""Checkpoints and models, as MLflow's logged models: with step, metrics, params and the run they come from.

A model is made, named as an output of the run, given its params and metrics, filled with files, and only then
said to be ready. MLflow shows it as pending until then, and as failed if its files are rejected.

Invariants:

* One record becomes one model, however often the shipper is restarted in the middle: the record's tag is
  looked for before a model is made, and each further step looks at what is there.
* A model that is ready has all of its files.
* A server that knows no logged models gets the files among the run's own. It is asked again for each record.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from trackside.destinations.mlflow.logged_models import ModelsUnknownError
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
    try:
        found = _found(run, record, page)
    except ModelsUnknownError:
        page = run.connection.get_run()  # raises if it is the server that is gone
        _write_among_files(run, record, content, page)
        return
    model = found or _made(run, record, page)
    _describe(run, record, model, page)
    _upload(run, record, content, model, page)
    run.connection.call(run.connection.client.models.end, model.model_id, ready=True)


def give_up_model(run: ArtifactRun, record: ArtifactRecord) -> None:
    """Say that the model of ``record`` has failed, if it was made."""
    try:
        found = _found(run, record, run.run)
    except ModelsUnknownError:
        return
    if found is not None and found.is_pending:
        run.connection.call(run.connection.client.models.end, found.model_id, ready=False)
        run.notice(f"MLflow shows the {record.kind} {_shown(record)!r} as failed")


def _found(run: ArtifactRun, record: ArtifactRecord, page: Run) -> LoggedModel | None:
    """The model that was made for the record. Raises :class:`ModelsUnknownError`."""
    find = run.connection.client.models.find
    found: LoggedModel | None = run.connection.call(
        find, page.info.experiment_id, ARTIFACT_TAG, _mark(run, record)
    )
    return found


def _mark(run: ArtifactRun, record: ArtifactRecord) -> str:
    return f"{run.connection.journal_id}/{record.seq}"


def _shown(record: ArtifactRecord) -> str:
    return str(record.details.get("name") or record.place)


def _made(run: ArtifactRun, record: ArtifactRecord, page: Run) -> LoggedModel:
    call, models = run.connection.call, run.connection.client.models
    name = _name(run, record)
    tags = {key: page.data.tags[key] for key in _OF_THE_PROGRAM if key in page.data.tags}
    made: LoggedModel = call(
        models.create,
        page,
        name,
        tags={**tags, ARTIFACT_TAG: _mark(run, record)},
        model_type="checkpoint" if record.kind == "checkpoint" else None,
    )
    return made


def _name(run: ArtifactRun, record: ArtifactRecord) -> str:
    wanted = _shown(record)
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
    points = list(_points(record, page, model.model_id))
    _log_points(run, record, points)


def _log_points(run: ArtifactRun, record: ArtifactRecord, points: list[Point]) -> None:
    try:
        if points:
            run.connection.log_points_beside(points)
    except RejectedError as error:  # the files matter more
        run.notice(f"MLflow rejects the metrics of the {record.kind} {record.place!r}: {error}")


def _params(record: ArtifactRecord, page: Run) -> Mapping[str, str]:
    """The run's params, as MLflow's own ``log_model`` has it, and those of the model."""
    own = {valid_name(key): str(value) for key, value in _mapping(record, "params").items()}
    return {key: value[:MAX_PARAM_VALUE_LENGTH] for key, value in {**page.data.params, **own}.items()}


def _points(record: ArtifactRecord, page: Run, model_id: str | None) -> Iterator[Point]:
    """The metrics of the model, which MLflow adds to those of the run.

    One that the run has at that step gets its time, so that it remains one point.
    """
    step = _metrics_step(record)
    for name, value in _mapping(record, "metrics").items():
        key = valid_name(name)
        last = page.data.last.get(key)
        time = last[1] if last is not None and last[0] == step else record.timestamp_ms
        plain = key, float(value), time, step
        yield plain if model_id is None else (*plain, model_id, None, None)


def _metrics_step(record: ArtifactRecord) -> int:
    """The step of the run at which the metrics were taken."""
    found = record.details.get("metrics_step")
    return found if isinstance(found, int) else record.step or 0


def _mapping(record: ArtifactRecord, name: str) -> Mapping[str, Any]:
    found = record.details.get(name)
    return found if isinstance(found, dict) else {}


def _upload(run: ArtifactRun, record: ArtifactRecord, content: Path, model: LoggedModel, page: Run) -> None:
    """Upload a folder's files as they lie in it, or a file under its own name."""
    place = replace(page, info=replace(page.info, artifact_uri=model.artifact_uri))
    if content.is_dir():
        run.upload_folder(content, "", to=place)
    else:
        run.upload(content, _file_name(record, content), to=place)


def _file_name(record: ArtifactRecord, content: Path) -> str:
    return str(record.details.get("file") or content.name)


def _write_among_files(run: ArtifactRun, record: ArtifactRecord, content: Path, page: Run) -> None:
    """Upload the files into a folder of the run, and log the metrics as the run's own."""
    if _told.is_first(f"{run.connection.journal_id} knows no models"):
        run.notice(
            "this MLflow server knows no logged models (MLflow 3 does). Checkpoints and models are uploaded "
            "among the run's artifacts, and their metrics are the run's. Their params are left out"
        )
    folder = _folder(record)
    _log_points(run, record, list(_points(record, page, None)))
    if content.is_dir():
        run.upload_folder(content, folder)
    else:
        run.upload(content, f"{folder}/{_file_name(record, content)}")


def _folder(record: ArtifactRecord) -> str:
    """A folder of its own for each step."""
    name = valid_model_name(_shown(record))
    if record.step is not None and not name.endswith(f"-{record.step}"):
        name = f"{name}/step-{record.step}"
    return f"checkpoints/{name}" if record.kind == "checkpoint" else name
