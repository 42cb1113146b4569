"""What ``start()`` was asked for, as the journal keeps it: the target and the meta record."""

from __future__ import annotations

import os
import secrets
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackside.destination_plan import RUN_ONLY
from trackside.errors import ConfigurationError
from trackside.events import now_ms
from trackside.journal.meta import Meta, Target, source_tags, this_process
from trackside.rank_crash import job_key
from trackside.settings import DEFAULT_TRACKING_URI, Settings, absolute_tracking_uri
from trackside.survey import leftovers_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from trackside.destination_plan import DestinationPlan

SYSTEM_METRICS_INTERVAL = 10.0
"""Seconds: the default of MLflow's own monitor."""

_env_run_ids_used: set[str] = set()
"""``MLFLOW_RUN_ID`` names the run of one ``start()``; a later one in this process is a run of its own."""


def make_target(
    settings: Settings,
    *,
    experiment_name: str | None,
    run_name: str | None,
    tracking_uri: str | os.PathLike[str] | None,
    artifact_location: str | os.PathLike[str] | None,
    tags: dict[str, str],
    resume: bool,
    checkpoint_dir: str | os.PathLike[str] | None,
    parent_run_id: str | None,
) -> Target:
    """What to log into, from arguments first, then the environment, then the checkpoint."""
    uri = _text("tracking_uri", tracking_uri)
    uri = settings.tracking_uri or DEFAULT_TRACKING_URI if uri is None else uri
    if not uri.strip():
        msg = (
            "tracking_uri is empty; give an address such as sqlite:///mlflow.db or http://host:5000, or None"
        )
        raise ConfigurationError(msg)
    env_run_id = settings.run_id if settings.run_id not in _env_run_ids_used else None
    sidecar = _text("checkpoint_dir", checkpoint_dir)
    named = _text("experiment_name", experiment_name) or settings.experiment_name
    return Target(
        tracking_uri=absolute_tracking_uri(uri),
        experiment_name=named,
        experiment_id=None if named else settings.experiment_id,
        run_name=_text("run_name", run_name),
        run_id=env_run_id,
        required_run=env_run_id is not None,
        artifact_location=_text("artifact_location", artifact_location),
        tags={**source_tags(), **tags},
        parent_run_id=_text("parent_run_id", parent_run_id),
        sidecar=None if sidecar is None else str(Path(sidecar).absolute()),
        resume=bool(resume),
    )


def note_started(target: Target) -> None:
    """Remember, once the run is started, that the run the environment names has been gone on with."""
    if target.required_run and target.run_id is not None:
        _env_run_ids_used.add(target.run_id)


def checked_signals(numbers: Iterable[int]) -> tuple[int, ...]:
    """Signals a process can handle, as numbers; raises :class:`ConfigurationError` for others."""
    try:
        found = tuple(int(number) for number in numbers)
    except (TypeError, ValueError):
        found = (0,)
    if not set(found) <= signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        msg = (
            "terminate_signals must be signals that a process can handle, such as "
            f"(signal.SIGTERM, signal.SIGUSR1), not {numbers!r}"
        )
        raise ConfigurationError(msg)
    return found


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
    if wanted is None:
        wanted = os.environ.get("MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING", "").lower() in {"1", "true"}
    if wanted is False:
        return None
    if wanted is True:
        wanted = os.environ.get("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL") or SYSTEM_METRICS_INTERVAL
    try:
        seconds = float(wanted)
    except (TypeError, ValueError):
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        msg = f"system_metrics must be True, False or a number of seconds above 0, not {wanted!r}"
        raise ConfigurationError(msg)
    return seconds


def checked_cap(cap: int) -> int:
    """Bytes the journal may take; raises :class:`ConfigurationError` for what is no such number."""
    if isinstance(cap, bool) or not isinstance(cap, int) or cap <= 0:
        msg = f"journal_cap must be a number of bytes above 0, not {cap!r}"
        raise ConfigurationError(msg)
    return cap


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
    texts = {} if note is None else {"mlflow.note.content": note}
    if tags is not None:
        to_dict = getattr(tags, "to_dict", None)
        items: Mapping[str, Any] = to_dict() if to_dict is not None else tags
        if not isinstance(items, Mapping):
            msg = f"tags must be a mapping such as {{'team': 'vision'}}, not {type(tags).__name__}"
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
) -> Meta:
    """The meta record of a new journal of this process."""
    return Meta(
        journal_id=secrets.token_hex(16),
        owner=this_process(),
        target=target,
        rank=rank,
        working_directory=os.getcwd(),
        started_ms=now_ms(),
        mode=settings.mode,
        cap=cap,
        terminate_signals=tuple(int(number) for number in terminate_signals),
        job=job_key() if rank == 0 else None,  # the notes of a job's ranks are for its run, and its to clear
        destinations=destinations.specs,
        mlflow=destinations.mlflow,
        mlflow_shape=destinations.mlflow_shape,
        system_metrics=system_metrics,
        after=tuple(str(path) for path in leftovers_of(settings.directory, target.sidecar)),
    )
