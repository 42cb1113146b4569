"""Optuna: a run for the study, and a child run for each trial.

As with Optuna's own ``MLflowCallback``, you pass a callback to ``study.optimize()``, decorate the
objective, or both::

    tracker = TracksideCallback(metric_name="loss")

    @tracker.track_in_trackside()
    def objective(trial): ...

    with tracker:
        study.optimize(objective, n_trials=100, callbacks=[tracker])

The callback alone hears of a trial when it is over. With the decorator, a trial's run begins with the trial:
what the trial reports is kept as it comes, and so is the trial that the process dies in.

Invariants:

* A trial has one run, whichever of the two has seen it.
* The status of a run is the trial's: pruned is FINISHED with the tag ``state`` PRUNED, and failed is
  FAILED, as is a trial whose objective returned no number.
* Trials in several threads do not share a bus. ``trackside.log`` in an objective logs into its own trial.
"""

from __future__ import annotations

import functools
import math
import threading
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

from trackside.event_bus.bus import Bus, default_bus
from trackside.integrations.missing import needs_extra
from trackside.integrations.short_runs import (
    end_short_run,
    log_params,
    set_tags,
    start_short_run,
    warn_once,
)
from trackside.session.current import current_run
from trackside.session.start import start

with needs_extra("optuna"):
    import optuna
    from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self, Unpack

    from trackside.events import ConfigEvent, FinalStatus, MetricsSample
    from trackside.session.options import StartOptions
    from trackside.session.run import Run

RUN_ID = "trackside_run_id"
"""The study's attribute with the id of its run, for other processes that work on the same study."""

_OF_THE_STUDY = {"bus", "config", "description", "run_name", "sinks"}
"""Options of the study's run that its trials do not share."""

_objective_run: ContextVar[Run | None] = ContextVar("_objective_run", default=None)
"""The run of the trial whose objective this thread is in."""


class TracksideCallback:
    """Logs a study and its trials.

    ``metric_name``: the name of the objective's value, or a list of names if it has several. With one name
    for several values, they are ``value_0``, ``value_1`` and so on. ``tag_trial_user_attrs``,
    ``tag_study_user_attrs``: whether user attributes become tags of the trials' runs.
    ``options``: those of ``trackside.start()``, for the study's run. The experiment is named after the study,
    unless you name another. If your program has a run, the trials are nested under that one.

    The study's run ends with ``with tracker:``, with :meth:`finish`, or with the program.
    """

    def __init__(
        self,
        metric_name: str | Sequence[str] = "value",
        *,
        tag_trial_user_attrs: bool = True,
        tag_study_user_attrs: bool = False,
        **options: Unpack[StartOptions],
    ) -> None:
        self._names = metric_name if isinstance(metric_name, str) else tuple(metric_name)
        self._tag_trial, self._tag_study = tag_trial_user_attrs, tag_study_user_attrs
        self._options = options
        self._lock = threading.RLock()
        self._studies: dict[str, _StudyRun] = {}
        self._seen: set[tuple[str, int]] = set()

    def __call__(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        """A trial is over: log what is not logged yet."""
        its_study = self._study_run(study)
        if (study.study_name, trial.number) not in self._seen:
            self._seen.add((study.study_name, trial.number))
            run = start_short_run(**its_study.child_options(trial))
            if run is not None:
                for step, value in sorted(trial.intermediate_values.items()):
                    run.log({self._intermediate_name: value}, step=step)
                self._end(run, trial, trial.state, trial.values, study, _fail_reason(trial))
        its_study.note(trial.number, trial.state, trial.values, self._names_of)

    def track_in_trackside(self) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """A decorator for the objective: the trial's run begins and ends with it.

        In the objective, ``trackside.log`` logs into the trial's run, and so does :meth:`run`.
        """

        def decorate(objective: Callable[..., Any]) -> Callable[..., Any]:
            @functools.wraps(objective)
            def tracked(*args: Any, **kwargs: Any) -> Any:
                trial = _trial_among(*args, *kwargs.values())
                run = None if trial is None else self._begin(trial)
                if trial is None or run is None:
                    return objective(*args, **kwargs)
                token, error, result = _objective_run.set(run), None, None
                try:
                    result = objective(*args, **kwargs)
                except BaseException as raised:
                    error = raised
                finally:
                    _objective_run.reset(token)
                self._conclude(run, trial, result, error)
                if error is not None:
                    raise error
                return result

            return tracked

        return decorate

    @property
    def run(self) -> Run | None:
        """The run of the trial whose objective is being computed in this thread, or else the study's."""
        found = _objective_run.get()
        if found is not None:
            return found
        return next((study.run for study in self._studies.values()), None)

    def finish(self, status: FinalStatus = "FINISHED", *, error: BaseException | None = None) -> None:
        """End the runs of the studies that were started here, with the best params."""
        with self._lock:
            for study in self._studies.values():
                study.finish(status, error, self._missed(study))
            self._studies.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.finish("FINISHED" if error is None else "FAILED", error=error)

    # One trial

    def _begin(self, trial: optuna.Trial) -> Run | None:
        its_study = self._study_run(trial.study)
        self._seen.add((trial.study.study_name, trial.number))
        run = start_short_run(**its_study.child_options(trial))
        if run is not None:
            _report_into(run, trial, self._intermediate_name)
        return run

    def _conclude(self, run: Run, trial: optuna.Trial, result: Any, error: BaseException | None) -> None:
        """The objective has returned ``result`` or raised ``error``."""
        state, values, reason = _outcome(trial, result, error)
        try:
            self._end(run, trial, state, values, trial.study, reason, error)
        except Exception as failure:
            warn_once(f"a trial is not logged completely: {type(failure).__name__}: {failure}")

    def _end(  # noqa: PLR0917
        self,
        run: Run,
        trial: Any,
        state: TrialState,
        values: Sequence[float] | None,
        study: optuna.Study,
        reason: str | None,
        error: BaseException | None = None,
    ) -> None:
        """Log what a trial has come to, and end its run. ``trial`` may be live or frozen."""
        log_params(run, trial.params)
        if values is not None:
            run.log(dict(zip(self._names_of(len(values)), values, strict=True)), step=_last_step(run))
        set_tags(run, self._tags(trial, state, study))
        if state is TrialState.FAIL:
            end_short_run(run, "FAILED", error=error, reason=reason)
        else:
            end_short_run(run, "FINISHED", reason="pruned" if state is TrialState.PRUNED else None)

    def _tags(self, trial: Any, state: TrialState, study: optuna.Study) -> dict[str, Any]:
        """The tags that Optuna's own callback sets, by the same names."""
        tags = {f"{name}_distribution": kind for name, kind in trial.distributions.items()}
        tags |= {"state": state.name, "datetime_complete": getattr(trial, "datetime_complete", None)}
        if self._tag_trial:
            tags |= trial.user_attrs
        if self._tag_study:
            tags |= {key: value for key, value in study.user_attrs.items() if key != RUN_ID}
        return tags

    # Names

    def _names_of(self, count: int) -> Sequence[str]:
        names = self._names
        if isinstance(names, str):
            return [names] if count == 1 else [f"{names}_{index}" for index in range(count)]
        if len(names) == count:
            return names
        warn_once(f"the objective has {count} values and {len(names)} metric names: they are numbered")
        return [f"value_{index}" for index in range(count)]

    @property
    def _intermediate_name(self) -> str:
        return f"intermediate_{self._names}" if isinstance(self._names, str) else "intermediate_value"

    # The study

    def _study_run(self, study: optuna.Study) -> _StudyRun:
        with self._lock:
            found = self._studies.get(study.study_name)
            if found is None:
                found = self._studies[study.study_name] = _StudyRun(study, self._options)
            return found

    def _missed(self, its_study: _StudyRun) -> Callable[[], None]:
        """Log the trials whose exception has ended ``optimize()``: it calls no callback for those."""

        def log() -> None:
            for trial in its_study.study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
                known = (its_study.study.study_name, trial.number) in self._seen
                if not known and its_study.is_since(trial):
                    self(its_study.study, trial)

        return log


class _StudyRun:
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
            run = _objective_run.get()
            (self._study_bus if run is None else run.bus).emit(event)


def _trial_among(*arguments: Any) -> optuna.Trial | None:
    """The trial. A method has its object before it, and a partial function other arguments."""
    found = (one for one in arguments if isinstance(one, optuna.trial.BaseTrial) and hasattr(one, "study"))
    trial = next(found, None)
    if trial is None:
        warn_once("the objective was called without a trial of a study, so it has no run of its own")
    return trial


def _report_into(run: Run, trial: Any, name: str) -> None:
    """Have what the trial reports logged as it comes."""
    report = trial.report

    @functools.wraps(report)
    def report_and_log(value: Any, step: Any) -> None:
        report(value, step)
        run.log({name: value}, step=step)

    trial.report = report_and_log


def _outcome(
    trial: optuna.Trial, result: Any, error: BaseException | None
) -> tuple[TrialState, Sequence[float] | None, str | None]:
    """State, values and reason, as Optuna is about to decide them."""
    if isinstance(error, optuna.TrialPruned):
        last = _last_report(trial)
        return TrialState.PRUNED, None if last is None else [last], None
    if error is not None:
        return TrialState.FAIL, None, None
    given = result if isinstance(result, (list, tuple)) else [result]
    try:
        values = [float(value) for value in given]
    except (TypeError, ValueError):
        return TrialState.FAIL, None, f"the objective returned {result!r}, which is not a number"
    if len(values) != len(trial.study.directions):
        return TrialState.FAIL, None, f"the objective returned {len(values)} values"
    if any(math.isnan(value) for value in values):
        return TrialState.FAIL, None, "the objective returned nan"
    return TrialState.COMPLETE, values, None


def _last_report(trial: optuna.Trial) -> float | None:
    """What the trial reported last. A pruned trial counts with it."""
    frozen = trial.study.get_trials(deepcopy=False)[trial.number]
    step = frozen.last_step
    return None if step is None else frozen.intermediate_values[step]


def _last_step(run: Run) -> int:
    """The step of the last report, which the value is logged at."""
    steps = (getattr(sink, "last_step", None) for sink in run.bus.sinks)
    return next((step for step in steps if isinstance(step, int)), 0)


def _fail_reason(trial: optuna.trial.FrozenTrial) -> str | None:
    return trial.system_attrs.get("fail_reason") if trial.state is TrialState.FAIL else None


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
