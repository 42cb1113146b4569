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
from typing import TYPE_CHECKING, Any

from trackside.integrations.missing import needs_extra
from trackside.integrations.optuna_study import RUN_ID, StudyRun, objective_run
from trackside.integrations.short_runs import log_params, set_tags, start_short_run
from trackside.integrations.warning import warn_once

with needs_extra("optuna"):
    import optuna
    from optuna.trial import TrialState

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from typing_extensions import Self, Unpack

    from trackside.events import FinalStatus
    from trackside.session.options import StartOptions
    from trackside.session.run import Run


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
        self._studies: dict[str, StudyRun] = {}
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
                token, error, result = objective_run.set(run), None, None
                try:
                    result = objective(*args, **kwargs)
                except BaseException as raised:
                    error = raised
                finally:
                    objective_run.reset(token)
                self._conclude(run, trial, result, error)
                if error is not None:
                    raise error
                return result

            return tracked

        return decorate

    @property
    def run(self) -> Run | None:
        """The run of the trial whose objective is being computed in this thread, or else the study's."""
        found = objective_run.get()
        if found is not None:
            return found
        return next((study.run for study in self._studies.values()), None)

    def finish(self, status: FinalStatus = "FINISHED", *, error: BaseException | None = None) -> None:
        """End the runs of the studies that were started here, with the best params."""
        with self._lock:
            for study in self._studies.values():
                study.finish(status, error, functools.partial(self._log_missed, study))
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
            run.finish("FAILED", error=error, reason=reason, wait=False)
        else:
            run.finish(reason="pruned" if state is TrialState.PRUNED else None, wait=False)

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

    def _study_run(self, study: optuna.Study) -> StudyRun:
        with self._lock:
            found = self._studies.get(study.study_name)
            if found is None:
                found = self._studies[study.study_name] = StudyRun(study, self._options)
            return found

    def _log_missed(self, its_study: StudyRun) -> None:
        """Log the trials whose exception has ended ``optimize()``: it calls no callback for those."""
        for trial in its_study.study.get_trials(deepcopy=False, states=(TrialState.FAIL,)):
            known = (its_study.study.study_name, trial.number) in self._seen
            if not known and its_study.is_since(trial):
                self(its_study.study, trial)


def _trial_among(*arguments: Any) -> Any:
    """The trial, or None. A method has its object before it, and a partial function other arguments.

    A frozen trial is of no study. A wrapper need not be an ``optuna.Trial``.
    """
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
