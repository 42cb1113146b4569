"""The run of an Optuna study, and what is logged into it.

Invariant: one process owns it. Others that work on the study know its id, and log nothing into it.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from trackside.event_bus.bus import Bus, default_bus
from trackside.integrations.missing import needs_extra
from trackside.integrations.short_runs import log_params, set_tags
from trackside.integrations.warning import warn_once
from trackside.session.current import current_run
from trackside.session.start import start

with needs_extra("optuna"):
    import optuna
    from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.events import ConfigEvent, FinalStatus, MetricsSample
    from trackside.session.options import StartOptions
    from trackside.session.run import Run

RUN_ID = "trackside_run_id"
"""The study's attribute with the id of its run, for other processes that work on the same study."""

_OF_THE_STUDY = {"bus", "config", "description", "run_name", "sinks"}
"""Options of the study's run that its trials do not share."""

objective_run: ContextVar[Run | None] = ContextVar("objective_run", default=None)
"""The run of the trial whose objective this thread is in."""


class StudyRun:
    """The run of a study: one that was started here, the program's own, or that of another process."""

    def __init__(self, study: optuna.Study, options: StartOptions) -> None:
        self.study = study
        self.run: Run | None = None
        """The run, unless it is another process's."""
        self._is_ours = False
        self._first = len(study.get_trials(deepcopy=False))
        self._best: float | None = None
        self._options: dict[str, Any] = {"experiment_name": _experiment_of(study), **options}
        self._router: _Router | None = None
        # An id in the attributes: another process, or an earlier one, has begun this study.
        self._parent_id = None if _is_private(study) else study.user_attrs.get(RUN_ID)
        if self._parent_id is None:
            self._begin()

    def _begin(self) -> None:
        found = current_run(self._options.get("bus"))
        if found is not None:
            self.run = found
            return
        options: Any = {"run_name": self.study.study_name, "bus": Bus("an Optuna study"), **self._options}
        self.run, self._is_ours = start(**options), True
        if options["bus"] is not default_bus:
            self._router = default_bus.attach(_Router(options["bus"]))
        log_params(self.run, _about(self.study))
        if not _is_private(self.study) and self.run.run_id is not None:
            self.study.set_user_attr(RUN_ID, self.run.run_id)

    def child_options(self, trial: Any) -> StartOptions:
        """What the run of a trial is started with."""
        directions = [direction.name for direction in self.study.directions]
        tags = {
            "number": str(trial.number),
            "datetime_start": str(trial.datetime_start),
            "direction": directions[0] if len(directions) == 1 else str(directions),
            **(self._options.get("tags") or {}),
        }
        options: Any = {"run_name": f"{trial.number}", "tags": tags, "parent": self.run}
        if self.run is None:  # then the children are told where to go
            own = {key: value for key, value in self._options.items() if key not in _OF_THE_STUDY}
            options = {**own, **options, "parent_run_id": self._parent_id}
        return cast("StartOptions", options)

    def note(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        names_of: Callable[[int], Sequence[str]],
    ) -> None:
        """Log a trial's values into the study's own run, by the trial's number, and the best so far."""
        if self.run is None or values is None or state is not TrialState.COMPLETE:
            return
        metrics = dict(zip(names_of(len(values)), values, strict=True))
        if len(values) == 1:
            metrics[f"best_{names_of(1)[0]}"] = self._better(values[0])
        self.run.log(metrics, step=number)

    def _better(self, value: float) -> float:
        maximize = self.study.direction is optuna.study.StudyDirection.MAXIMIZE
        if self._best is None:
            self._best = self.study.best_value
        self._best = max(self._best, value) if maximize else min(self._best, value)
        return self._best

    def is_since(self, trial: optuna.trial.FrozenTrial) -> bool:
        """Whether the trial has begun since this process works on the study."""
        return bool(trial.number >= self._first)

    def finish(
        self, status: FinalStatus, error: BaseException | None, log_missed: Callable[[], None]
    ) -> None:
        """End the run if it was started here."""
        try:
            if error is not None:
                log_missed()
            if self._is_ours and self.run is not None:
                _log_best(self.run, self.study)
        except Exception as failure:
            warn_once(f"the study is not logged completely: {type(failure).__name__}: {failure}")
        if self._router is not None:
            default_bus.detach(self._router)
        if self._is_ours and self.run is not None:
            self.run.finish(status, error=error)


class _Router:
    """Takes what is logged on the default bus to the trial whose objective logs it, or else to the study."""

    emits_nothing = True

    def __init__(self, study_bus: Bus) -> None:
        self._study_bus = study_bus

    def on_metrics(self, sample: MetricsSample) -> None:
        """Pass it on, unless the program has a run of its own there."""
        self._pass_on(sample)

    def on_config(self, event: ConfigEvent) -> None:
        """Pass it on, unless the program has a run of its own there."""
        self._pass_on(event)

    def _pass_on(self, event: MetricsSample | ConfigEvent) -> None:
        if current_run() is None:
            run = objective_run.get()
            (self._study_bus if run is None else run.bus).emit(event)


def _about(study: optuna.Study) -> dict[str, Any]:
    return {
        "study_name": study.study_name,
        "directions": [direction.name for direction in study.directions],
        "sampler": type(study.sampler).__name__,
        "pruner": type(study.pruner).__name__,
    }


def _log_best(run: Run, study: optuna.Study) -> None:
    """Log the best trial's params, as people do by hand."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if complete and len(study.directions) == 1:
        log_params(run, {"best_params": study.best_params})
        set_tags(run, {"best_trial": study.best_trial.number})


def _experiment_of(study: optuna.Study) -> str | None:
    """The study's name, unless Optuna has made it up."""
    return None if study.study_name.startswith("no-name-") else study.study_name


def _is_private(study: optuna.Study) -> bool:
    """Whether no other process can work on the study."""
    storage = getattr(study, "_storage", None)
    return isinstance(storage, optuna.storages.InMemoryStorage)
