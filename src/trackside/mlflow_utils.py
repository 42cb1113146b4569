"""The five helpers this project grew from, for recipes that want MLflow's fluent interface.

A recipe written for NeMo AutoModel's ``mlflow_utils`` works after you change one import. These helpers call
MLflow in this process and wait for its answer. ``trackside.start`` does not wait. Importing this module
imports neither mlflow nor torch.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from trackside.coerce.floats import to_float
from trackside.destinations.mlflow.address import is_server
from trackside.destinations.mlflow.run_id_file import read_run_id_file, write_run_id_file
from trackside.errors import CoercionError, RunActiveError, TrackingError
from trackside.names import MAX_REQUEST_BYTES, batches, truncate_params
from trackside.params import to_plain
from trackside.rank import get_rank
from trackside.redaction.forms import mask_address
from trackside.redaction.redact import redact, redact_config, redact_mapping
from trackside.system.once import Once
from trackside.tag_names import DESCRIPTION_TAG

if TYPE_CHECKING:
    from types import TracebackType

logger = logging.getLogger("trackside.mlflow_utils")

DEFAULT_EXPERIMENT = "automodel-experiment"

_BATCH_BYTES = MAX_REQUEST_BYTES - 100_000
"""The rest surrounds the params in a request."""

_dropped = Once()


def configure_mlflow(cfg: Any) -> Any | None:
    """Start or resume a fluent MLflow run on rank 0, and log the configuration to it.

    ``cfg`` answers ``get(dotted_key, default)``; its section ``mlflow`` (a mapping, or anything
    with ``get`` or ``to_dict``) has the keys ``experiment_name`` ("automodel-experiment"),
    ``run_name``, ``tracking_uri``, ``artifact_location``, ``tags``, ``description``, ``resume``
    (True) and ``flatten_depth`` (1, or None for no limit). The configuration is
    ``cfg.to_yaml_dict(use_orig_values=True)`` or, without that method, what ``trackside.params.to_plain``
    makes of ``cfg``. Secrets are masked in it, in the tags and in the description.

    If ``MLFLOW_RUN_ID`` names a run, that run is resumed. Otherwise, unless ``resume`` is false, it is the
    one in the run-id file ``mlflow_run_id`` of ``cfg.get("checkpoint.checkpoint_dir")``. Afterwards that
    file names the run this call returns. If the run it named is deleted or unknown to the server, a new one
    is started with a warning. If ``MLFLOW_RUN_ID`` names such a run, this raises.

    A new run gets the flattened configuration as params and as ``config.yaml``. A resumed one keeps its
    params and gets ``config.resumed-<UTC time>.yaml``. Once the run is active, a configuration or file that
    cannot be written costs a warning. The failure hook is installed.

    Returns the active run, or None on other ranks and without a section ``mlflow``.

    Raises:
        TrackingError: MLflow started no run. The server refuses or cannot be reached (after MLflow's own
            retries: some four minutes, unless ``MLFLOW_HTTP_REQUEST_MAX_RETRIES`` says less), the
            experiment is deleted, or the run of ``MLFLOW_RUN_ID`` is unknown.
        RunActiveError: a fluent run is already active in this thread.
        ImportError: MLflow is not installed.
    """
    options = _options(cfg) if get_rank() == 0 else {}
    if not options:
        return None
    config = redact_config(_config_of(cfg))
    checkpoint_dir = _checkpoint_dir(cfg)
    run, resumed = _start_run(options, checkpoint_dir)
    _install_mlflow_failure_hook()
    if checkpoint_dir:
        with _warn_on_failure("the run id is not kept, a restart will not find the run"):
            write_run_id_file(checkpoint_dir, run.info.run_id)
    _log_config(config, options.get("flatten_depth", 1), resumed)
    logger.info("MLflow run %s: %s", "resumed" if resumed else "started", _address(run))
    return run


def end_mlflow_active_run_as_killed() -> None:
    """End the active run, and any it is nested in, as KILLED. Do nothing without one.

    Call it in your SIGTERM handler, because MLflow's own exit hook would end the run as FINISHED. Raises
    nothing. What MLflow raises is logged as a warning.
    """
    end_active_runs("KILLED")


def _install_mlflow_failure_hook() -> None:
    """Chain ``sys.excepthook`` so that an uncaught exception ends the active run as FAILED.

    MLflow's own exit hook, which runs later, would end it as FINISHED. The run ends first, with those it is
    nested in. Then the previous hook prints the traceback, whatever MLflow did. Installing it twice changes
    nothing. The hook sees exceptions of the main thread, including Ctrl-C. ``sys.exit(1)``, other threads and
    signals reach no excepthook (``trackside.start`` sees those).
    """
    previous = sys.excepthook
    if getattr(previous, "_mlflow_failure_hook", False):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            end_active_runs("FAILED")
        finally:
            previous(kind, error, trace)

    hook._mlflow_failure_hook = True  # type: ignore[attr-defined]  # noqa: SLF001 - the seed's own mark
    sys.excepthook = hook


def flatten_params_for_mlflow(
    params: Mapping[str, Any],
    max_depth: int | None = 1,
    prefix: str = "",
    _depth: int = 0,
) -> dict[str, str]:
    """Flatten nested mappings to strings under dotted keys.

    ``max_depth`` is how many levels are split into keys. At 1, ``{"a": {"b": {"c": 1}}}`` becomes
    ``{"a.b": "{'c': 1}"}``. At 0, each value of the top level is one string. None splits every level. Lists
    and tuples are always one string. An empty mapping that would be split leaves nothing. ``prefix`` goes
    before every key, with a dot.
    """
    flat: dict[str, str] = {}
    for key, value in params.items():
        name = f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, Mapping) and (max_depth is None or _depth < max_depth):
            flat.update(flatten_params_for_mlflow(value, max_depth, name, _depth + 1))
        else:
            flat[name] = str(value)
    return flat


def to_float_metrics(metrics: Mapping[str, Any]) -> dict[str, float]:
    """Keep the values that ``mlflow.log_metrics`` accepts, as floats.

    A tensor of one element becomes its value, and a larger one its mean, including integer and bool tensors.
    int, float and bool become floats. Anything else is dropped, with one warning for each key in the life of
    the process. Raises nothing.
    """
    floats: dict[str, float] = {}
    for key, value in metrics.items():
        try:
            floats[key] = to_float(_tensor_or_number(value))
        except CoercionError as error:
            if _dropped.is_first(key):
                extra = {"trackside_metric": key}
                logger.warning("metric %r is not logged: %s (logged once per name)", key, error, extra=extra)
    return floats


def _tensor_or_number(value: Any) -> Any:
    """Return ``value`` if it is what this module has always taken. ``to_float`` takes more."""
    torch = sys.modules.get("torch")  # without it there are no tensors
    if isinstance(value, (int, float)) or (torch and isinstance(value, torch.Tensor)):
        return value
    raise CoercionError(f"{type(value).__name__} is neither a tensor nor a number")


def end_active_runs(status: str, *, down_to: str | None = None) -> None:
    """End this thread's runs, innermost first, except ``down_to`` and those below it. Log what fails."""
    mlflow = sys.modules.get("mlflow")
    if mlflow is None:  # without the import no run was started
        return
    ended = None
    # Do not try a run again that end_run() has left active.
    while (run := _active_run(mlflow)) is not None and run is not ended:
        if run.info.run_id == down_to:
            break
        with _warn_on_failure(f"the run may not be shown as {status}"):
            mlflow.end_run(status=status)
        ended = run


def _active_run(mlflow: Any) -> Any | None:
    with _warn_on_failure("cannot ask MLflow for its active run"):
        return mlflow.active_run()
    return None


@contextlib.contextmanager
def _warn_on_failure(consequence: str) -> Iterator[None]:
    """Turn an exception into one warning, safe even inside a signal handler."""
    try:
        yield
    except Exception as error:
        # A handler may have interrupted a write to the same stream, which then refuses re-entry.
        with contextlib.suppress(RuntimeError):
            logger.warning("%s: %s: %s", consequence, type(error).__name__, redact(str(error)))


def _options(cfg: Any) -> Any:
    """Return the section ``mlflow`` as an object with ``get``, or an empty one."""
    section = cfg.get("mlflow", None)
    if not section or hasattr(section, "get"):
        return section or {}
    return section.to_dict() if hasattr(section, "to_dict") else vars(section)


def _option(options: Any, key: str, default: Any) -> Any:
    """Return an option. An empty key in the file (``run_name:``) counts as left out."""
    value = options.get(key, None)
    return default if value is None or value == "" else value


def _checkpoint_dir(cfg: Any) -> str | None:
    directory = cfg.get("checkpoint.checkpoint_dir", None)
    if directory is None:  # plain dicts and OmegaConf do not follow the dot
        section = cfg.get("checkpoint", None)
        directory = section.get("checkpoint_dir", None) if hasattr(section, "get") else None
    return os.fspath(directory) if directory else None


def _config_of(cfg: Any) -> dict[str, Any]:
    if hasattr(cfg, "to_yaml_dict"):
        # The form that spells callables as dotted paths, the same ones in every process.
        cfg = cfg.to_yaml_dict(use_orig_values=True)
    try:
        return to_plain(cfg)
    except CoercionError as error:
        logger.warning("the config is not logged: %s", error)
        return {}


def _tags(options: Any) -> dict[str, str]:
    raw = _option(options, "tags", {})
    pairs = dict(raw.to_dict() if hasattr(raw, "to_dict") else raw)
    tags = {str(key): str(value) for key, value in pairs.items()}
    if description := _option(options, "description", None):
        tags[DESCRIPTION_TAG] = str(description)
    return redact_mapping(tags)


def _start_run(options: Any, checkpoint_dir: str | None) -> tuple[Any, bool]:
    """Return the active run, and whether it was resumed."""
    mlflow = import_mlflow()
    if (active := mlflow.active_run()) is not None:
        raise RunActiveError(f"run {active.info.run_id} is active: call mlflow.end_run() first")
    tags = _tags(options)
    try:
        if uri := _option(options, "tracking_uri", None):
            mlflow.set_tracking_uri(uri)
        run_id = _run_to_resume(mlflow, options, checkpoint_dir)
        run = mlflow.start_run(
            run_id=run_id,
            experiment_id=_experiment_id(mlflow, options) if run_id is None else None,
            run_name=_option(options, "run_name", None),
            tags=tags,
        )
    except TrackingError:
        raise
    except Exception as error:  # besides MlflowException, what the store's driver raises
        uri = str(mlflow.get_tracking_uri())
        message = redact(f"MLflow at {uri} did not start a run: {error}")
        # MLflow quotes the whole address, a server what it was sent. A traceback prints the cause's message.
        raise TrackingError(message) from (
            error if mask_address(uri) == uri and redact(str(error)) == str(error) else None
        )
    return run, run_id is not None


def import_mlflow() -> Any:
    """Import mlflow on first use, or raise ``ImportError`` with the command that installs it."""
    try:
        import mlflow
    except ImportError as error:
        raise ImportError("the section `mlflow` needs MLflow: pip install mlflow") from error
    return mlflow


def _run_to_resume(mlflow: Any, options: Any, checkpoint_dir: str | None) -> str | None:
    if explicit := os.environ.get("MLFLOW_RUN_ID", "").strip():
        return explicit
    if checkpoint_dir is None or not _option(options, "resume", True):
        return None
    run_id = read_run_id_file(checkpoint_dir)
    return run_id if run_id is not None and _can_resume(mlflow, run_id) else None


def _can_resume(mlflow: Any, run_id: str) -> bool:
    try:
        stage = mlflow.get_run(run_id).info.lifecycle_stage
    except mlflow.MlflowException as error:
        if error.error_code not in {"RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"}:
            raise
        stage = "unknown to the server"
    if stage == "active":
        return True
    logger.warning("run %s, which the checkpoints belong to, is %s: starting a new run", run_id, stage)
    return False


def _experiment_id(mlflow: Any, options: Any) -> str:
    name = _option(options, "experiment_name", DEFAULT_EXPERIMENT)
    experiment = mlflow.get_experiment_by_name(name)
    if experiment is None:
        location = _option(options, "artifact_location", None)
        try:
            return str(mlflow.create_experiment(name=name, artifact_location=location))
        except mlflow.MlflowException as error:
            # Jobs of one sweep start together: another may have created it since we looked.
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
            experiment = mlflow.get_experiment_by_name(name)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise TrackingError(
            f"the MLflow experiment {name!r} is deleted: restore it (`mlflow experiments restore`)"
            " or set another mlflow.experiment_name"
        )
    return str(experiment.experiment_id)


def _log_config(config: Mapping[str, Any], flatten_depth: int | None, resumed: bool) -> None:
    mlflow = import_mlflow()
    name = "config.yaml"
    if resumed:
        # Params cannot change in MLflow, and a longer max_steps is a good reason to resume.
        name = f"config.resumed-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}.yaml"
    else:
        with _warn_on_failure("params are not logged"):
            _log_params(mlflow, flatten_params_for_mlflow(config, max_depth=flatten_depth))
    with _warn_on_failure(f"{name} is not logged"):
        mlflow.log_dict(dict(config), name)


def _log_params(mlflow: Any, params: Mapping[str, str]) -> None:
    cut, _ = truncate_params(params)  # the artifact has the whole values
    for batch in batches(cut, _bytes_of, _BATCH_BYTES):
        try:
            mlflow.log_params(batch)
        except mlflow.MlflowException as error:
            if error.error_code != "INVALID_PARAMETER_VALUE" or len(batch) == 1:
                raise
            _log_one_by_one(mlflow, batch)


def _log_one_by_one(mlflow: Any, params: Mapping[str, str]) -> None:
    """Keep one bad param from taking the batch with it."""
    for key, value in params.items():
        with _warn_on_failure(f"param {key!r} is not logged"):
            mlflow.log_params({key: value})


def _bytes_of(key: str, value: str) -> int:
    """What a param takes in a request. json.dumps, as in MLflow's client: six bytes for what is not ASCII."""
    return len(json.dumps([key, value])) + 20


def _address(run: Any) -> str:
    """Return where you find the run: a link, if the store has its own UI."""
    info = run.info
    uri = mask_address(import_mlflow().get_tracking_uri())
    if not is_server(uri):
        return f"{info.run_id} in {uri}"
    return f"{uri.rstrip('/')}/#/experiments/{info.experiment_id}/runs/{info.run_id}"
