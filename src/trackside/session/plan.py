"""What ``start()`` was asked for, as the journal keeps it: the target and the meta record."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Literal

from trackside.destinations.mlflow.address import checked_address, checked_artifact_location
from trackside.destinations.mlflow.database import existing_part
from trackside.errors import ConfigurationError
from trackside.events import now_ms
from trackside.journal.meta import Meta, Target, source_tags, this_process
from trackside.lifecycle.launcher import job_key
from trackside.redaction.redact import mask_address, redact, redact_mapping
from trackside.session.arguments import checked_folder
from trackside.session.destinations import RUN_ONLY
from trackside.session.parent import NO_PARENT, active_parent, checked_parent
from trackside.settings import DEFAULT_TRACKING_URI, Settings, absolute, absolute_tracking_uri
from trackside.shipper.inventory import leftovers_of
from trackside.tag_names import DESCRIPTION_TAG
from trackside.text import encodable

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trackside.session.destinations import DestinationPlan

SMALLEST_CAP = 1 << 20
"""Bytes: one segment as the journal makes its first, and what is delivered makes room for the next."""

SYSTEM_METRICS_INTERVAL = 10.0
"""Seconds: the default of MLflow's own monitor."""

ALWAYS: Final = "always"
"""``resume="always"``: the run that the checkpoints name, whatever it is."""

_env_run_ids_used: dict[str, object] = {}
"""``MLFLOW_RUN_ID`` names the run of one ``start()``; a later one in this process is a run of its own."""


def make_target(
    settings: Settings,
    *,
    experiment_name: str | None,
    run_name: str | None,
    tracking_uri: str | os.PathLike[str] | None,
    artifact_location: str | os.PathLike[str] | None,
    tags: dict[str, str],
    resume: bool | str,
    checkpoint_dir: str | os.PathLike[str] | None,
    parent: Any = None,
    parent_run_id: str | None = None,
) -> Target:
    """What to log into, from arguments first, then the environment, then the checkpoint.

    A child goes where its parent is, unless it is told otherwise.
    """
    known = checked_parent(parent, parent_run_id)
    given = known.tracking_uri if tracking_uri is None else tracking_uri
    uri = _of_unicode(absolute_tracking_uri(chosen_address(settings, given)))
    known.check_address(uri)
    checkpoint_dir = checked_folder("checkpoint_dir", _path("checkpoint_dir", checkpoint_dir))
    named = _name("experiment_name", experiment_name) or settings.experiment_name
    wanted = checked_resume(resume)
    texts = {
        "run_name": redact(encodable((_text("run_name", run_name) or "").strip())) or None,
        "artifact_location": checked_artifact_location(_path("artifact_location", artifact_location)),
    }
    env_run_id = _claim(settings.run_id)  # behind all that raises: nothing else frees it
    if known == NO_PARENT and env_run_id is None:
        known = active_parent(uri)
    if not named and not settings.experiment_id:
        named = known.experiment_name
    return Target(
        tracking_uri=uri,
        experiment_name=named,
        experiment_id=None if named else settings.experiment_id or known.experiment_id,
        run_id=env_run_id,
        required_run=env_run_id is not None,
        tags=redact_mapping({encodable(k): encodable(v) for k, v in {**source_tags(), **tags}.items()}),
        parent_run_id=known.run_id,
        parent_journal=known.journal,
        checkpoint_dir=None if checkpoint_dir is None else str(absolute(checkpoint_dir, "checkpoint_dir")),
        resume=wanted is not False,
        resume_finished=wanted == ALWAYS,
        **texts,
    )


def chosen_address(settings: Settings, tracking_uri: str | os.PathLike[str] | None) -> str:
    """MLflow's address, from the argument or else the environment.

    Raises :class:`ConfigurationError` for what is not an address.
    """
    given = _path("tracking_uri", tracking_uri)
    if given is not None:
        return checked_address(given)
    if settings.tracking_uri is not None:
        return checked_address(settings.tracking_uri, "MLFLOW_TRACKING_URI")
    return DEFAULT_TRACKING_URI


def _of_unicode(uri: str) -> str:
    """``uri``; raises :class:`ConfigurationError` for a path that MLflow can't keep in its store."""
    if encodable(uri) != uri:
        msg = (
            f"tracking_uri leads to {mask_address(uri)!r}, which is not UTF-8, and MLflow cannot "
            "use such a path: give tracking_uri the address of a server, or an absolute path that is UTF-8"
        )
        raise ConfigurationError(msg)
    return uri


def _working_directory() -> str:
    """Where the program runs, or the name that the folder had before it was removed."""
    try:
        return os.getcwd()
    except OSError:
        with contextlib.suppress(OSError):
            return os.readlink("/proc/self/cwd").removesuffix(" (deleted)")
        return os.environ.get("PWD", os.sep)


def _claim(run_id: str | None) -> str | None:
    """``run_id``, unless another ``start()`` of this process has it, perhaps in another thread."""
    mine = object()
    return run_id if run_id is not None and _env_run_ids_used.setdefault(run_id, mine) is mine else None


def release(target: Target) -> None:
    """The start failed: the run that the environment names is the next one's."""
    if target.required_run and target.run_id is not None:
        _env_run_ids_used.pop(target.run_id, None)


def checked_resume(resume: Any) -> bool | Literal["always"]:
    """``resume`` as ``start()`` takes it; raises :class:`ConfigurationError` for anything else."""
    if isinstance(resume, str) and resume.strip().lower() == ALWAYS:
        return ALWAYS
    if isinstance(resume, int) and resume in {0, 1}:  # True and False are such
        return bool(resume)
    msg = (
        "resume must be True (resume the run that checkpoint_dir names, unless it is finished), "
        f'False (start a new run) or "always" (resume a finished run, too), not {resume!r}'
    )
    raise ConfigurationError(msg)


def checked_sinks(sinks: Iterable[Any]) -> tuple[Any, ...]:
    """``sinks`` as a tuple; raises ``TypeError`` for a sink that stands alone, parentheses forgotten."""
    try:
        return tuple(sinks)
    except TypeError as error:
        msg = f"sinks must be several, such as (sink,), not {type(sinks).__name__}"
        raise TypeError(msg) from error


def checked_interval(system_metrics: bool | float | None) -> float | None:
    """Seconds between two samples of the machine's load; None for none.

    None asks MLflow's own variables; True is their interval. Raises :class:`ConfigurationError`.
    """
    wanted: bool | float | str | None = system_metrics
    name = "system_metrics must be True, False or"
    if wanted is None:
        wanted = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() in {"1", "true"}
    if wanted is False:
        return None
    if wanted is True:
        wanted = os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or SYSTEM_METRICS_INTERVAL
        name = "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL must be"
    try:
        seconds = float(wanted)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        msg = f"{name} a number of seconds above 0, not {wanted!r}"
        raise ConfigurationError(msg)
    return seconds


def checked_cap(cap: int) -> int:
    """Bytes the journal may take; raises :class:`ConfigurationError` for what is no such number."""
    whole = isinstance(cap, int) or (isinstance(cap, float) and cap.is_integer())
    if isinstance(cap, bool) or not whole or cap < SMALLEST_CAP:
        msg = (
            f"journal_cap must be a number of bytes, such as 4 * 1024**3 for 4 GiB, and {SMALLEST_CAP} or "
            f"more, not {cap!r}"
        )
        raise ConfigurationError(msg)
    return int(cap)


def _path(name: str, value: Any) -> str | None:
    """``value`` as text, where a number can't be meant."""
    if isinstance(value, (int, float)):
        msg = f"{name} must be text or a path, not {type(value).__name__}"
        raise ConfigurationError(msg)
    return _text(name, value)


def _name(name: str, value: Any) -> str | None:
    """``value`` as text; raises for empty text, too."""
    text = _text(name, value)
    if text is not None and not text.strip():
        msg = f"{name} is empty; give a name, or None for the default"
        raise ConfigurationError(msg)
    return text


def _text(name: str, value: Any) -> str | None:
    """``value`` as text; raises for what is neither text, a path nor a number."""
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, os.PathLike):
        value = os.fspath(value)
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        msg = f"{name} must be text, not {type(value).__name__}"
        raise ConfigurationError(msg)
    return str(value)


def text_tags(tags: Mapping[str, Any] | None, description: str | None) -> dict[str, str]:
    """The user's tags as text, the description among them; raises for what is no mapping."""
    note = _text("description", description)
    texts = {} if note is None else {DESCRIPTION_TAG: note}
    if tags is not None:
        to_dict = getattr(tags, "to_dict", None)
        items: Mapping[str, Any] = to_dict() if to_dict is not None else tags
        if not isinstance(items, Mapping):
            msg = (
                f"tags must be a mapping such as {{'team': 'vision'}}, not {type(tags).__name__}; "
                "make one of pairs with dict()"
            )
            raise ConfigurationError(msg)
        texts.update({str(key): str(value) for key, value in items.items()})
    return texts


def make_meta(
    target: Target,
    settings: Settings,
    *,
    terminate_signals: Iterable[int],
    cap: int,
    rank: int = 0,
    destinations: DestinationPlan = RUN_ONLY,
    system_metrics: float | None = None,
    beside: tuple[str, ...] = (),
    folder: int | None = None,
) -> Meta:
    """The meta record of a new journal of this process, in the folder of that number.

    ``beside``: ids of those of its other live runs.
    """
    return Meta(
        journal_id=secrets.token_hex(16),
        owner=this_process(),
        target=target,
        rank=rank,
        working_directory=_working_directory(),
        started_ms=now_ms(),
        mode=settings.mode,
        cap=cap,
        terminate_signals=tuple(int(number) for number in terminate_signals),
        job=job_key() if rank == 0 else None,  # the notes of a job's ranks are for its run, and its to clear
        destinations=destinations.specs,
        mlflow=destinations.mlflow,
        mlflow_transform=destinations.mlflow_transform,
        system_metrics=system_metrics,
        beside=beside,
        store_path=existing_part(target.tracking_uri),
        folder=folder,
        after=tuple(
            str(path) for path in leftovers_of(settings.directory, target.checkpoint_dir, target.tracking_uri)
        ),
    )
