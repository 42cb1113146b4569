"""A run that MLflow's own API has made, recorded as one of ``start()``: with a journal, a shipper, hooks.

The journal store (:mod:`trackside.journal_store`) is the caller. Such a program did not ask for trackside,
so it hears warnings and errors only.
"""

from __future__ import annotations

import dataclasses
import logging
from typing import TYPE_CHECKING, NamedTuple

from trackside.errors import ConfigurationError, RunActiveError
from trackside.event_bus.bus import Bus, default_bus
from trackside.journal.meta import Target
from trackside.journal.supply import DEFAULT_CAP
from trackside.lifecycle.call_site import CallSite
from trackside.rank import get_rank
from trackside.session.current import noop_runs, reserved
from trackside.session.destinations import plan_destinations
from trackside.session.from_environment import destinations_beside, sinks_beside
from trackside.session.plan import RunPlan
from trackside.session.recording import RecordingRun, recording_runs
from trackside.session.sinks import plan_sinks
from trackside.settings import (
    DEFAULT_TERMINATE_SIGNALS,
    DESTINATIONS_VARIABLE,
    SINKS_VARIABLE,
    absolute_tracking_uri,
    read_environment,
)
from trackside.shipper.spawn import leave_if_meant_to_ship
from trackside.system.once import Once

if TYPE_CHECKING:
    from trackside.journal.meta import Adopted
    from trackside.session.destinations import DestinationPlan
    from trackside.session.sinks import SinkPlan
    from trackside.settings import Settings

logger = logging.getLogger("trackside.session")


class AdoptedRun(NamedTuple):
    """A run of MLflow's own API, as the caller knows it. ``tracking_uri`` has its credentials."""

    run_id: str
    experiment_id: str
    tracking_uri: str
    how: Adopted
    name: str | None = None
    journal_id: str | None = None
    """The id by which the run's page claims it already."""
    experiment_name: str | None = None


def adopt(run: AdoptedRun) -> RecordingRun:
    """Record ``run`` from now on. Its events go over the default bus or, if that is taken, one of its own.

    Sinks or destinations of the environment that cannot be had are left out with a warning: the program may
    not even know of them. Raises :class:`~trackside.errors.ConfigurationError` for another variable that is
    malformed, and :class:`~trackside.errors.JournalError` if ``TRACKSIDE_DIR`` cannot be written.
    """
    leave_if_meant_to_ship()
    try:
        with reserved(default_bus):
            if id(default_bus) not in recording_runs and id(default_bus) not in noop_runs:
                return _begin(run, default_bus)
    except RunActiveError:  # another thread is starting a run there
        pass
    return _begin(run, Bus())


def _begin(run: AdoptedRun, bus: Bus) -> RecordingRun:
    settings, rank = dataclasses.replace(read_environment(), quiet=True), get_rank()
    target = Target(
        tracking_uri=absolute_tracking_uri(run.tracking_uri),
        experiment_name=run.experiment_name,
        experiment_id=run.experiment_id,
        run_name=run.name,
        run_id=run.run_id,
        required_run=True,
        adopted=run.how,
    )
    plan = RunPlan(
        bus,
        settings,
        target,
        terminate_signals=DEFAULT_TERMINATE_SIGNALS,
        cap=DEFAULT_CAP,
        rank=rank,
        # MLflow is told of a run wherever the program has made it, on any rank.
        destinations=_destinations(settings, rank)._replace(mlflow=True),
        journal_id=run.journal_id,
    )
    chosen = _sinks(settings, rank, bus)
    try:
        recording = RecordingRun(plan, CallSite())
        recording.begin(chosen.sinks, None)
    except BaseException:
        chosen.close_made()
        raise
    return recording


def _destinations(settings: Settings, rank: int) -> DestinationPlan:
    try:
        return plan_destinations((), rank, destinations_beside(settings))
    except ConfigurationError as error:
        _warn_without(DESTINATIONS_VARIABLE, error)
        return plan_destinations((), rank)


def _sinks(settings: Settings, rank: int, bus: Bus) -> SinkPlan:
    try:
        return plan_sinks((), rank, sinks_beside(settings, bus))
    except ConfigurationError as error:
        _warn_without(SINKS_VARIABLE, error)
        return plan_sinks((), rank)


def _warn_without(variable: str, error: ConfigurationError) -> None:
    if _said.is_first(variable):
        logger.warning("%s. Until you fix that, %s is ignored. Runs still go to MLflow", error, variable)


_said = Once()
