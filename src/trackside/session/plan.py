"""What ``start()`` was asked for, and how the journal keeps it: the plan, the target and the meta record."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import psutil

from trackside.destinations.mlflow.address import checked_artifact_location
from trackside.destinations.mlflow.database import existing_part
from trackside.destinations.mlflow.run_id_file import read_run_id_file
from trackside.errors import ConfigurationError
from trackside.events import now_ms
from trackside.journal.meta import Meta, Target
from trackside.journal.owner import this_process
from trackside.journal.version import FORMAT
from trackside.lifecycle.expected import NOTHING_ELSE, Expected
from trackside.redaction.forms import mask_address
from trackside.redaction.redact import redact, redact_mapping
from trackside.session.arguments import (
    ALWAYS,
    checked_folder,
    checked_name,
    checked_path,
    checked_resume,
    checked_text,
    chosen_address,
)
from trackside.session.destinations import RUN_ONLY, DestinationPlan
from trackside.session.launcher import job_key
from trackside.session.parent import NO_PARENT, active_parent, checked_parent
from trackside.settings import absolute, absolute_tracking_uri
from trackside.shipper.leftovers import leftovers_of
from trackside.tag_names import SOURCE_NAME_TAG, SOURCE_TYPE_TAG, USER_TAG
from trackside.text import encodable

if TYPE_CHECKING:
    from trackside.event_bus.bus import Bus
    from trackside.settings import Settings

_env_run_ids_used: dict[str, object] = {}
"""``MLFLOW_RUN_ID`` names the run of one ``start()``. A later one in this process is a run of its own."""


@dataclass(frozen=True)
class RunPlan:
    """Everything one run is made from, checked. The address in ``target`` has its credentials."""

    bus: Bus
    settings: Settings
    target: Target
    terminate_signals: tuple[int, ...]
    cap: int
    rank: int = 0
    destinations: DestinationPlan = RUN_ONLY
    system_metrics: float | None = None
    expected: Expected = NOTHING_ELSE
    wait: bool = False
    """Whether ``start()`` waits for the run's id."""
    journal_id: str | None = None
    """The id of the journal, where it was needed before there is one."""


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
    run_id: str | None = None,
) -> Target:
    """What to log into: from the arguments, then the environment, then the checkpoint.

    A child goes where its parent is, unless an argument names another place.
    """
    known = checked_parent(parent, parent_run_id)
    given = known.tracking_uri if tracking_uri is None else tracking_uri
    uri = _of_unicode(absolute_tracking_uri(chosen_address(settings, given)))
    known.check_address(uri)
    checkpoint_dir = checked_folder("checkpoint_dir", checked_path("checkpoint_dir", checkpoint_dir))
    named = checked_name("experiment_name", experiment_name) or settings.experiment_name
    wanted = checked_resume(resume)
    default = settings.run_name if known == NO_PARENT else None
    texts: dict[str, Any] = {
        "run_name": redact(encodable((checked_text("run_name", run_name) or default or "").strip())) or None,
        "artifact_location": checked_artifact_location(checked_path("artifact_location", artifact_location)),
    }
    env_run_id = _claim(settings.run_id)  # after everything that raises: nothing else frees it
    if known == NO_PARENT and env_run_id is None:
        known = active_parent(uri)
    if not named and not settings.experiment_id:
        named = known.experiment_name
    return Target(
        tracking_uri=uri,
        experiment_name=named,
        experiment_id=None if named else settings.experiment_id or known.experiment_id,
        run_id=env_run_id or (run_id if wanted is not False else None),
        required_run=env_run_id is not None,
        tags=redact_mapping({encodable(k): encodable(v) for k, v in {**_source_tags(), **tags}.items()}),
        parent_run_id=known.run_id,
        parent_journal=known.journal,
        checkpoint_dir=None if checkpoint_dir is None else str(absolute(checkpoint_dir, "checkpoint_dir")),
        resume=wanted is not False,
        resume_finished=wanted == ALWAYS,
        **texts,
    )


def _of_unicode(uri: str) -> str:
    """``uri``. Raises :class:`ConfigurationError` for a path that MLflow can't keep in its store."""
    if encodable(uri) != uri:
        raise ConfigurationError(
            f"tracking_uri leads to {mask_address(uri)!r}, which is not UTF-8, and MLflow cannot "
            "use such a path: give tracking_uri the address of a server, or an absolute path that is UTF-8"
        )
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


def free_run_id(target: Target) -> None:
    """The start failed: the run that the environment names is free for the next start."""
    if target.required_run and target.run_id is not None:
        _env_run_ids_used.pop(target.run_id, None)


def may_resume(target: Target) -> bool:
    """Whether a run that exists may be resumed: the user named it, or the checkpoints do."""
    if target.run_id is not None:
        return True
    folder = target.checkpoint_dir
    return folder is not None and target.resume and read_run_id_file(folder) is not None


def new_journal_id() -> str:
    """An id that no other journal has."""
    return secrets.token_hex(16)


def make_meta(plan: RunPlan, *, beside: tuple[str, ...] = (), folder: int | None = None) -> Meta:
    """The meta record of a new journal of this process, without credentials.

    ``beside``: journal ids of the process's other live runs. ``folder``: the number of the journal's folder.
    """
    uri = plan.target.tracking_uri
    target = msgspec.structs.replace(plan.target, tracking_uri=mask_address(uri))
    after = leftovers_of(plan.settings.directory, target.checkpoint_dir, target.tracking_uri)
    return Meta(
        journal_id=plan.journal_id or new_journal_id(),
        owner=this_process(),
        target=target,
        rank=plan.rank,
        working_directory=_working_directory(),
        started_ms=now_ms(),
        mode=plan.settings.mode,
        schema=FORMAT,
        cap=plan.cap,
        terminate_signals=plan.terminate_signals,
        job=job_key() if plan.rank == 0 else None,  # notes of a job's ranks are read, and cleared, by rank 0
        destinations=plan.destinations.specs,
        mlflow=plan.destinations.mlflow,
        mlflow_transform=plan.destinations.mlflow_transform,
        system_metrics=plan.system_metrics,
        beside=beside,
        store_path=existing_part(target.tracking_uri),
        folder=folder,
        after=tuple(str(path) for path in after),
        start_waits=plan.wait,
    )


def _source_tags() -> dict[str, str]:
    """The tags ``mlflow.start_run`` would have set, of this process, not of the shipper.

    The shipper finds the git commit.
    """
    main: Any = sys.modules.get("__main__")
    source = getattr(main, "__file__", None) or sys.argv[0] or sys.executable
    notebook = "ipykernel" in sys.modules
    return {
        SOURCE_NAME_TAG: str(source),
        SOURCE_TYPE_TAG: "NOTEBOOK" if notebook else "LOCAL",
        USER_TAG: _user(),
    }


def _user() -> str:
    try:
        return psutil.Process().username()
    except (psutil.Error, KeyError):
        return str(os.getuid())
