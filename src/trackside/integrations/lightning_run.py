"""The run of one Lightning logger: when it begins, which bus it has, and how it is continued after an end.

Invariants:

* Several loggers in one Trainer have a run each. The default bus is the first one's, so ``trackside.log``
  works in the training step.
* A logger whose training is over keeps its run open for what comes next, until another logger begins a run.
  So a loop over folds, each with a logger, has one shipper at a time.
* A logger that logs again after its run has ended resumes that run, as another attempt.
"""

from __future__ import annotations

import atexit
import contextlib
import logging
import os
import threading
import weakref
from typing import TYPE_CHECKING, Any

from trackside.event_bus.bus import Bus, default_bus
from trackside.integrations.lightning_state import note_beside
from trackside.integrations.training_run import TrainingRun
from trackside.lifecycle.in_flight import uncaught_exception
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from trackside.events import ConfigEvent, FinalStatus, LifecycleEvent
    from trackside.integrations.lightning_identity import LoggerIdentity
    from trackside.integrations.lightning_state import RunState
    from trackside.session.run import Run

_log = logging.getLogger("trackside.integrations")

_begun: weakref.WeakSet[LoggerRun] = weakref.WeakSet()
"""The runs of loggers that have begun in this process."""


class LoggerRun:
    """The run of one logger. ``options``: those of ``start()``, all but ``resume`` and what the bus gives."""

    def __init__(
        self, options: dict[str, Any], identity: LoggerIdentity, *, resume: bool | str, bus: Bus | None
    ) -> None:
        self._options, self._identity, self._resume = options, identity, resume
        self._bus = bus
        self._training: TrainingRun | None = None
        self._from: RunState | None = None
        self._own_id: str | None = None
        self._waiting: list[ConfigEvent] = []
        self._folders: set[str] = set()
        self._process = 0
        self._asked_for = self._at_rest = self._told = False
        self._lock = threading.RLock()

    @property
    def current(self) -> Run | None:
        """The run, while it is open."""
        training = self._training
        return training.run if training is not None and training.is_open else None

    def stand_in(self) -> StandIn:
        """What ``logger.experiment`` is before the run has begun. A Trainer asks for it as it sets up."""
        self._asked_for = True
        return StandIn(self)

    def begin(self) -> Run:
        """Begin the run, or return it if it is open. Raises what ``start()`` raises."""
        with self._lock:
            self._at_rest = False
            run = self.current
            if run is None:
                run = self._begin()
            return run

    def to_log(self) -> Run | None:
        """The run to log into. A run that can't be begun a second time is warned of once."""
        run = self.current
        if run is not None:
            return run
        if self._training is None:
            return self.begin()
        try:
            return self.begin()
        except Exception as error:  # the first begin has worked, and logging raises nothing
            if not self._told:
                self._told = True
                _log.warning(
                    "the run has ended and can't be resumed, so what is logged is not kept: %s",
                    redact(str(error)),
                )
            return None

    def configure(self, event: ConfigEvent) -> None:
        """Log a configuration now, or as soon as the run begins."""
        run = self.current
        if run is not None:
            run.emit(event)
            return
        if not self._waiting:
            self._process = os.getpid()
            atexit.register(self._at_exit)
        self._waiting.append(event)

    def keep_id_in(self, folder: str) -> None:
        """Checkpoints are saved in ``folder``: keep the run's id there, once it is known."""
        self._folders.add(folder)
        self._note_id()

    def rest(self) -> None:
        """A training is over, and more may come."""
        self._at_rest = True
        self._note_id()

    def fail(self, status: FinalStatus, error: BaseException | None) -> None:
        """A training has failed: end the run, with ``error`` as the evidence.

        With ``sys.exit`` the exit code says how the run ends.
        """
        if isinstance(error, SystemExit):
            self.rest()
            return
        with contextlib.suppress(Exception):  # what has failed may be the beginning of this run
            if self._training is not None or self._asked_for:
                self.begin()
        if self._training is not None:
            self._training.finish(status, error=error)
            self._note_id()

    def postpone(self, event: LifecycleEvent) -> None:
        """Emit ``event`` before the next one. For signal handlers."""
        training = self._training
        if training is not None and training.run is not None:
            training.run.bus.postpone(event)

    def resume_from(self, state: RunState) -> bool:
        """Resume the run that a checkpoint names, at the beginning. False if it is too late for that."""
        if self._training is not None:
            return state.run_id in {None, self._own_id or self._known_id()}
        self._from = state
        return True

    def end_if_at_rest(self) -> None:
        """Another logger begins a run: end this one if its training is over."""
        if self._at_rest and self._training is not None and self.current is not None:
            self._training.finish()
            self._note_id()

    def _begin(self) -> Run:
        for other in list(_begun):
            other.end_if_at_rest()
        options = {**self._options, **self._which_run()}
        waiting, self._waiting = self._waiting, []
        training = TrainingRun(self._free_bus())
        try:
            run = training.begin(**options)
        except BaseException:
            self._waiting = waiting
            raise
        training.complete()  # the program's end says how it ended, and finalize() if it fails
        self._training = training
        _begun.add(self)
        for event in waiting:
            run.emit(event)
        return run

    def _which_run(self) -> dict[str, Any]:
        """The options that say which run is resumed, if any."""
        folder, again = self._identity.folder, self._training is not None
        if self._own_id is not None and self._identity.is_private:
            return {"run_id": self._own_id, "resume": "always"}
        if again or self._from is None or self._resume is False:
            resume: Any = "always" if again or self._identity.is_private else self._resume
            return {"checkpoint_dir": folder, "run_id": self._own_id, "resume": resume}
        if self._from.run_id is None and self._from.journal is not None:
            _log.warning(
                "the checkpoint was saved before its run had an id, and the journal %s does not tell it: "
                "starting a new run. To resume the other one, set MLFLOW_RUN_ID to its id",
                self._from.journal,
            )
        return {"checkpoint_dir": folder, "run_id": self._from.run_id, "resume": "always"}

    def _free_bus(self) -> Bus | None:
        """The default bus, unless another logger's run has it."""
        if self._bus is not None:
            return self._bus
        taken = any(other.has_default_bus() for other in list(_begun) if other is not self)
        return Bus() if taken else None

    def has_default_bus(self) -> bool:
        """Whether the run is open and on the default bus."""
        run = self.current
        return run is not None and run.bus is default_bus

    def _known_id(self) -> str | None:
        run = None if self._training is None else self._training.run
        return None if run is None else run.link.run_id

    def _note_id(self) -> None:
        """Keep the run's id here and beside the checkpoints, if it is known."""
        known = self._own_id = self._known_id() or self._own_id
        if known is not None:
            for folder in self._folders:
                note_beside(folder, known)

    def _at_exit(self) -> None:
        """The program leaves with a configuration that no run has got."""
        if os.getpid() != self._process or not self._waiting:
            return
        error = uncaught_exception()
        with contextlib.suppress(Exception):
            self.begin().finish(error=error)

    def __getstate__(self) -> dict[str, Any]:
        kept = vars(self).copy()
        kept["_own_id"] = self._own_id or self._known_id()
        for name in ("_training", "_lock"):
            del kept[name]
        return kept

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._training, self._lock = None, threading.RLock()


class StandIn:
    """Stands for a run that has not begun, and begins it when any of its members is used."""

    def __init__(self, run: LoggerRun) -> None:
        self._run = run

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self._run.begin(), name)

    def __repr__(self) -> str:
        return "<trackside.Run that has not begun>"


def _forget_in_child() -> None:
    """In a forked child the runs are the parent's."""
    _begun.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
