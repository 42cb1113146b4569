"""``start()``: puts settings, bus, journal, sinks, hooks and shipper together into a :class:`Run`."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal

from trackside.errors import ConfigurationError
from trackside.event_bus.bus import Bus
from trackside.events import ConfigEvent
from trackside.journal.supply import DEFAULT_CAP
from trackside.lifecycle.expected import checked_expected
from trackside.lifecycle.launcher import job_key
from trackside.lifecycle.peer_crash import CrashNoteHook, CrashNoteSink
from trackside.lifecycle.verdict import checked_status
from trackside.rank import get_rank
from trackside.session.arguments import checked_config, checked_depth, checked_signals
from trackside.session.call_site import CallSite
from trackside.session.destinations import plan_destinations
from trackside.session.noop import NoopRun, inert_runs
from trackside.session.parent import checked_parent
from trackside.session.plan import (
    checked_cap,
    checked_interval,
    chosen_address,
    make_target,
    release,
    text_tags,
)
from trackside.session.reservation import reserved
from trackside.session.run import Run, active_runs
from trackside.session.sinks import SinkPlan, plan_sinks
from trackside.settings import DEFAULT_TERMINATE_SIGNALS, mistyped_variables, read_environment
from trackside.shipper.spawn import leave_if_meant_to_ship

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Mapping

    from trackside.lifecycle.expected import Expected, ExpectedExceptions
    from trackside.session.options import DestinationOption, SinkOption
    from trackside.settings import Settings

logger = logging.getLogger(__name__)

default_bus: Bus = Bus()
"""The bus that ``trackside.log``, ``trackside.emit`` and ``trackside.bus`` mean."""


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
) -> Run:
    """Start logging a run, and return it.

    On rank 0 this makes the journal, starts the shipper, attaches the sinks, hooks into exceptions,
    signals and exits, and waits up to 15 s (``TRACKSIDE_START_TIMEOUT``) for the run's id; a server that
    does not answer is one warning, and training goes on. On other ranks, and with
    ``TRACKSIDE_MODE=disabled``, it returns an inert run.

    ``tracking_uri``: a server, a database or a folder of MLflow's; default ``MLFLOW_TRACKING_URI``, else
    ``sqlite:///mlflow.db``.
    ``config``: a mapping, dataclass, Namespace, pydantic or OmegaConf object; ``flatten_depth`` levels of
    it get params of their own (None: all), and the whole becomes ``config.yaml``.
    ``checkpoint_dir``: where the file ``mlflow_run_id`` is kept, which names the latest run. With ``resume``
    that run is resumed, unless it is FINISHED or has another experiment or name than asked for: then a
    warning says so, and a new run starts. ``resume="always"`` resumes it whatever it is. ``MLFLOW_RUN_ID``
    beats the file, and names a run to resume whatever ``resume`` is. A run whose owner lives, in another
    process, is added to, and its status is left to the owner.
    ``parent``: the run to nest this one under, which need not have an id yet; or ``parent_run_id``, if all
    you have is an id. Without either, a run that MLflow's own API has made active in this thread is the
    parent. Tracking address and experiment are the parent's, unless you name others.
    ``sinks``: more sinks for this run, detached and closed at its end: objects, names (``"console"``) or
    mappings (``{"type": "console", "transform": {...}}``).
    ``destinations``: what the shipper delivers to beside MLflow: kinds (``"tensorboard"``) or mappings
    (``{"type": "jsonl", "path": "metrics.jsonl", "transform": {...}}``).
    ``system_metrics``: sample the machine's load into MLflow: True, or seconds between two samples (default
    ``MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING``, and 10 s).
    ``expected``: exceptions that are not failures, by class or dotted name, each with the status it means:
    ``{StopTraining: "FINISHED"}``; a list means FINISHED. Optuna's ``TrialPruned`` is known.
    ``terminate_signals``: signals that mean "stop", as numbers or names; ``journal_cap``: bytes the journal
    may take on disk.

    Raises :class:`~trackside.errors.ConfigurationError` (a malformed address, a deleted experiment, a run
    id there is none of, an unknown sink, destination or option, a missing extra),
    :class:`~trackside.errors.JournalError` (``TRACKSIDE_DIR`` cannot be written),
    :class:`~trackside.errors.RunActiveError` (this bus has a run, started elsewhere in the program) and
    ``TypeError`` (a sink that is none).
    Nothing is left behind then.
    """
    leave_if_meant_to_ship()
    bus = _checked_bus(bus)
    settings = read_environment()
    rank = get_rank()
    config_event = None if config is None else ConfigEvent(config, flatten_depth)
    if settings.mode == "disabled":
        return NoopRun(bus, config=config_event)
    if rank == 0:
        _warn_of_mistyped_variables()
    # On every rank: at a mistake all of them stop, not rank 0 alone while the others wait for it.
    checked_config(config), checked_depth(flatten_depth), chosen_address(settings, tracking_uri)
    checked_parent(parent, parent_run_id)
    signals, cap = checked_signals(terminate_signals), checked_cap(journal_cap)
    interval, run_tags = checked_interval(system_metrics), text_tags(tags, description)
    planned = plan_destinations(destinations, rank)
    meanings = checked_expected(expected)
    notes = _crash_notes(settings, rank, meanings)
    if planned.empty:
        more = plan_sinks(sinks, rank).sinks
        return NoopRun(bus, notes, more, config=config_event)
    site = CallSite()
    with reserved(bus):
        earlier = active_runs.get(id(bus))
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
        )
        chosen = SinkPlan((), ())
        try:
            chosen = plan_sinks(sinks, rank)
            run = Run(
                bus,
                settings,
                target,
                terminate_signals=signals,
                cap=cap,
                rank=rank,
                destinations=planned,
                system_metrics=interval,
                expected=meanings,
                call_site=site,
            )
            if earlier is not None:
                run.follow(earlier)
            run.begin([*chosen.sinks, *([] if notes is None else [CrashNoteSink(notes)])], config_event)
        except BaseException:
            chosen.close_made()
            release(target)
            raise
        return run


def _warn_of_mistyped_variables() -> None:
    for name, near in mistyped_variables().items():
        logger.warning("the environment has %s, which trackside does not know; did you mean %s?", name, near)


def current_run(bus: Bus | None = None) -> Run | None:
    """Return the run that is being logged, or None: that of the default bus, or of ``bus``.

    On other ranks and in disabled mode it is the no-op run that ``start()`` returned there.
    """
    key = id(_checked_bus(bus))
    return active_runs.get(key) or inert_runs.get(key)


def finish(status: str = "FINISHED", *, bus: Bus | None = None) -> None:
    """End the current run as ``status``, as :meth:`Run.finish` does; without a run, do nothing.

    For a run that you hold no reference to: started in a function or a notebook cell that failed. ``bus`` is
    the run's bus if it has one of its own. Raises ``ValueError`` for an unknown status.
    """
    checked_status(status)
    run = current_run(bus)
    if run is not None:
        run.finish(status)


def _crash_notes(settings: Settings, rank: int, expected: Expected) -> CrashNoteHook | None:
    """What tells rank 0 of a crash of this rank."""
    return None if rank == 0 else CrashNoteHook(settings.directory, job_key(), rank, expected)


def _checked_bus(bus: Bus | None) -> Bus:
    if bus is None:
        return default_bus
    if not isinstance(bus, Bus):
        msg = f"bus must be a trackside.Bus, not {type(bus).__name__}"
        raise ConfigurationError(msg)
    return bus
