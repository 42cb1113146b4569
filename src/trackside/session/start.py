"""``start()``: checks its arguments, plans the run, and begins it on a bus.

The way leads down. ``start()`` checks its arguments (:mod:`~trackside.session.arguments`) and writes down the
plan (:mod:`~trackside.session.plan`). The run (:mod:`~trackside.session.recording`) wires its parts
(:mod:`~trackside.session.assembly`), and ends in :mod:`~trackside.session.ending`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from trackside.events import ConfigEvent
from trackside.journal.supply import DEFAULT_CAP
from trackside.lifecycle.call_site import CallSite
from trackside.lifecycle.expected import checked_expected
from trackside.lifecycle.peer_crash import CrashNoteHook, CrashNoteSink
from trackside.rank import get_rank
from trackside.session.arguments import (
    checked_cap,
    checked_config,
    checked_depth,
    checked_interval,
    checked_name,
    checked_signals,
    checked_wait,
    chosen_address,
    text_tags,
)
from trackside.session.current import checked_bus, reserved
from trackside.session.destinations import plan_destinations
from trackside.session.from_environment import destinations_beside, sinks_beside
from trackside.session.launcher import job_key
from trackside.session.noop import NoopRun
from trackside.session.parent import checked_parent
from trackside.session.plan import RunPlan, free_run_id, make_target
from trackside.session.recording import RecordingRun, recording_runs
from trackside.session.sinks import SinkPlan, plan_sinks
from trackside.settings import DEFAULT_TERMINATE_SIGNALS, mistyped_variables, read_environment
from trackside.shipper.spawn import leave_if_meant_to_ship
from trackside.system.parent_folder import note_use, tell_parent

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from trackside.event_bus.bus import Bus
    from trackside.lifecycle.expected import ExpectedExceptions
    from trackside.session.options import DestinationOption, SinkOption
    from trackside.session.run import Run

logger = logging.getLogger("trackside.session")


def start(  # noqa: PLR0917 - the public signature, all of them options
    experiment_name: str | None = None,
    run_name: str | None = None,
    tracking_uri: str | os.PathLike[str] | None = None,
    artifact_location: str | os.PathLike[str] | None = None,
    config: Any = None,
    tags: Mapping[str, Any] | None = None,
    description: str | None = None,
    resume: bool | Literal["always"] = True,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    flatten_depth: int | None = 1,
    sinks: Iterable[SinkOption] = (),
    parent_run_id: str | None = None,
    bus: Bus | None = None,
    terminate_signals: int | str | Iterable[int | str] = DEFAULT_TERMINATE_SIGNALS,
    journal_cap: int = DEFAULT_CAP,
    destinations: Iterable[DestinationOption] = (),
    system_metrics: bool | float | None = None,
    expected: ExpectedExceptions = None,
    parent: Run | None = None,
    wait: bool | None = None,
    run_id: str | None = None,
) -> Run:
    """Start logging a run, and return it.

    On rank 0 this makes the journal, starts the shipper, attaches the sinks, and hooks into exceptions,
    signals and exits. Your training does not wait for MLflow: the shipper opens the run, and ``run.run_id``
    waits for its id. If the server does not answer, one warning says so. If it refuses the run, one error
    does. Your training continues either way. On other ranks, and with ``TRACKSIDE_MODE=disabled``, it returns
    a no-op run.

    ``tracking_uri``: a server, a database or a folder of MLflow's. Default: ``MLFLOW_TRACKING_URI``, else
    ``sqlite:///mlflow.db``.
    ``config``: a mapping, dataclass, Namespace, pydantic or OmegaConf object. ``flatten_depth`` levels of
    it get params of their own (None: all), and the whole becomes ``config.yaml``.
    ``checkpoint_dir``: where the file ``mlflow_run_id`` is kept, which names the latest run. With ``resume``
    that run is resumed. If it is FINISHED, or has another experiment or name than you asked for, a warning
    says so and a new run starts. ``resume="always"`` resumes even a finished run. ``MLFLOW_RUN_ID`` beats the
    file, and names a run to resume whatever ``resume`` is. If the run's owner still lives in another process,
    this process adds points to it, and the owner sets its status.
    ``run_id``: the run to resume, if you keep its id yourself, for instance in a checkpoint. It comes before
    the file in ``checkpoint_dir``, and ``resume`` applies to it in the same way.
    ``parent``: the run to nest this one under, which need not have an id yet. If all you have is an id, pass
    ``parent_run_id``. Without either, a run that MLflow's own API has made active in this thread is the
    parent. Tracking address and experiment are the parent's, unless you name others.
    ``sinks``: more sinks for this run, detached and closed at its end: objects, names (``"console"``) or
    mappings (``{"type": "console", "transform": {...}}``).
    ``destinations``: what the shipper delivers to beside MLflow: kinds (``"tensorboard"``) or mappings
    (``{"type": "jsonl", "path": "metrics.jsonl", "transform": {...}}``). ``TRACKSIDE_SINKS`` and
    ``TRACKSIDE_DESTINATIONS`` add to both.
    ``system_metrics``: sample the machine's load into MLflow. True, or the seconds between two samples
    (default: ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING``, and 10 s).
    ``expected``: exceptions that are not failures, by class or dotted name, each with the status it means:
    ``{StopTraining: "FINISHED"}``. A list means FINISHED. Optuna's ``TrialPruned`` is known.
    ``terminate_signals``: signals that mean "stop", as numbers or names. ``journal_cap``: bytes the journal
    may take on disk.
    ``wait``: wait up to 15 s (``TRACKSIDE_START_TIMEOUT``) until MLflow has opened the run, and raise if it
    refuses (default: ``TRACKSIDE_START_WAIT``, and False).

    Raises :class:`~trackside.errors.ConfigurationError` (a malformed address, a deleted experiment, an
    unknown run id, sink, destination or option, a missing extra),
    :class:`~trackside.errors.JournalError` (``TRACKSIDE_DIR`` cannot be written),
    :class:`~trackside.errors.RunActiveError` (this bus has a run, started elsewhere in the program) and
    ``TypeError`` (an object that is not a sink). A start that raises leaves nothing behind.
    """
    leave_if_meant_to_ship()
    tell_parent(note_use)
    bus, settings, rank = checked_bus(bus), read_environment(), get_rank()
    config_event = None if config is None else ConfigEvent(config, flatten_depth)
    if settings.mode == "disabled":
        return NoopRun(bus, config=config_event)
    if rank == 0:
        _warn_of_mistyped_variables()
    # On every rank: a mistake stops all of them, not rank 0 alone while the others wait for it.
    checked_config(config), checked_depth(flatten_depth), chosen_address(settings, tracking_uri)
    checked_parent(parent, parent_run_id), checked_name("run_id", run_id)
    signals, cap = checked_signals(terminate_signals), checked_cap(journal_cap)
    interval, run_tags = checked_interval(system_metrics), text_tags(tags, description)
    waits = checked_wait(wait, settings)
    planned = plan_destinations(destinations, rank, destinations_beside(settings))
    meanings = checked_expected(expected)
    notes = None if rank == 0 else CrashNoteHook(settings.directory, job_key(), rank, meanings)
    if planned.empty:
        chosen = plan_sinks(sinks, rank, sinks_beside(settings, bus)).sinks
        return NoopRun(bus, sinks=chosen, config=config_event, crash_notes=notes, expected=meanings)
    site = CallSite()
    with reserved(bus):
        earlier = recording_runs.get(id(bus))
        if earlier is not None and earlier.takes_starts(tracking_uri):
            earlier.take_start(plan_sinks(sinks, rank), config_event, run_tags)
            return earlier
        if earlier is not None:
            earlier.finish_before(site)
        target = make_target(
            settings,
            experiment_name=experiment_name,
            run_name=run_name,
            tracking_uri=tracking_uri,
            artifact_location=artifact_location,
            tags=run_tags,
            resume=resume,
            checkpoint_dir=checkpoint_dir if rank == 0 else None,
            parent=parent,
            parent_run_id=parent_run_id,
            run_id=run_id,
        )
        plan = RunPlan(bus, settings, target, signals, cap, rank, planned, interval, meanings, waits)
        own_sinks = () if notes is None else (CrashNoteSink(notes),)
        return _begin(plan, site, (sinks, own_sinks), config_event, after=earlier)


def _begin(
    plan: RunPlan,
    site: CallSite,
    sinks: tuple[Iterable[Any], Iterable[Any]],
    config: ConfigEvent | None,
    *,
    after: RecordingRun | None,
) -> RecordingRun:
    """Make the run and put it to work. If that fails, leave nothing behind.

    ``sinks``: the user's and ours. ``after``: the run before, if this one follows it at the same place.
    """
    chosen = SinkPlan((), ())
    try:
        chosen = plan_sinks(sinks[0], plan.rank, sinks_beside(plan.settings, plan.bus))
        run = RecordingRun(plan, site)
        if after is not None:
            run.follow(after)
        run.begin((*chosen.sinks, *sinks[1]), config)
    except BaseException:
        chosen.close_made()
        free_run_id(plan.target)
        raise
    return run


def _warn_of_mistyped_variables() -> None:
    for name, near in mistyped_variables().items():
        logger.warning("the environment has %s, which trackside does not know. Did you mean %s?", name, near)
