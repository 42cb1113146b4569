"""The run that one training of a framework logs into: which one it is, and who ends it.

A framework says when a training begins, and that it is over. It rarely says how it ended, and more may come:
an evaluation after ``train()``, a second training, a crash in the user's own code. So an integration reports
the two moments here, and the run ends by the rules of every run.

Invariants:

* If the program has a run, the training logs into that one, and only the program ends it.
* Otherwise a run is started. It stays open after the training, for what comes next. It ends with the next
  training on the same bus, or with the program.
* A training that never reached its end has not succeeded, even if the program has caught the exception and
  leaves with code 0. Its run is FAILED, or what the exception or signal behind it means. If the program calls
  ``sys.exit``, the exit code tells.
* A run that has ended is left alone, whoever ended it.
"""

from __future__ import annotations

import atexit
import os
from typing import TYPE_CHECKING

from trackside.events import ConfigEvent
from trackside.session.current import checked_bus, current_run
from trackside.session.start import start

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from trackside.event_bus.bus import Bus
    from trackside.events import FinalStatus
    from trackside.session.options import StartOptions
    from trackside.session.run import Run

CUT_SHORT = "the training did not reach its end"
"""Why a run has failed, if nothing else is known."""

_open: dict[int, TrainingRun] = {}
"""The trainings whose run was started here and has not ended, by the bus's id."""


class TrainingRun:
    """One training and its run.

    Call :meth:`begin`, then :meth:`complete`, or :meth:`finish` if the framework says how it ended.

    ``bus``: the default bus, or one of its own for each of several trainings at once.
    """

    def __init__(self, bus: Bus | None = None) -> None:
        self._bus = checked_bus(bus)
        self._completed = False
        self._process = 0
        self.run: Run | None = None
        """The run. None before :meth:`begin`."""
        self.is_ours = False
        """Whether the run was started here, so that its end is ours, too."""

    def begin(self, **options: Unpack[StartOptions]) -> Run:
        """The run that the program has started, or else a new one: ``options`` are those of ``start()``.

        The ``config`` is logged into either. A run that an earlier training has left open ends first.
        Raises what ``start()`` raises.
        """
        earlier = _open.get(id(self._bus))
        if earlier is not None:
            earlier.end_before_next()
        found = current_run(self._bus)
        self.is_ours, self._completed = found is None, False
        if found is None:
            options["bus"] = self._bus
            self.run = start(**options)
            _open[id(self._bus)] = self
            self._process = os.getpid()
            atexit.register(self._at_exit)  # runs before the session's own, which came first
            return self.run
        self.run = found
        self._add_config(options)
        return found

    def begin_again(self, **options: Unpack[StartOptions]) -> Run:
        """Like :meth:`begin`, but a run of this training that is still open is the one that continues.

        For a framework that begins one training twice: because it evaluates first, or tries a smaller batch.
        """
        if not self.is_open or self.run is None:
            return self.begin(**options)
        self._completed = False
        self._add_config(options)
        return self.run

    @property
    def is_cut_short(self) -> bool:
        """Whether the training has begun, and has not reached its end so far."""
        return self.is_open and not self._completed

    @property
    def is_open(self) -> bool:
        """Whether the run takes what is logged: it has begun, and has not ended."""
        return self.run is not None and self.run is current_run(self._bus)

    def complete(self) -> None:
        """The training has reached its end. A run of ours stays open for what comes after it."""
        self._completed = True

    def finish(
        self,
        status: FinalStatus = "FINISHED",
        *,
        error: BaseException | None = None,
        reason: str | None = None,
    ) -> None:
        """The training is over, and it is known how. A run of ours ends, as with :meth:`Run.finish`."""
        self._completed = True
        if self.run is None or not self.is_ours:
            return
        self._forget()
        self.run.finish(status, error=error, reason=reason)

    def end_before_next(self) -> None:
        """Another training begins on this bus: end the run if it is ours."""
        if not self.is_open:
            self._forget()
        elif self._completed:
            self.finish()
        else:
            self.finish("FAILED", reason=CUT_SHORT)

    def _at_exit(self) -> None:
        """The program leaves: say so if the training was cut short. The session judges everything else."""
        run = self.run
        if os.getpid() != self._process or self._completed or run is None or not self.is_open:
            return
        if not run.called_exit:
            self.finish("FAILED", reason=CUT_SHORT)

    def _add_config(self, options: StartOptions) -> None:
        if self.run is not None and options.get("config") is not None:
            self.run.emit(ConfigEvent(options["config"], options.get("flatten_depth", 1)))

    def _forget(self) -> None:
        if _open.get(id(self._bus)) is self:
            del _open[id(self._bus)]
        atexit.unregister(self._at_exit)


def run_of_program(bus: Bus | None = None) -> Run | None:
    """The run that the program itself has started on ``bus``. None if there is none, or an integration's."""
    chosen = checked_bus(bus)
    ours = _open.get(id(chosen))
    found = current_run(chosen)
    return None if ours is not None and ours.run is found else found


def _forget_in_child() -> None:
    """The trainings of a forked process are its parent's."""
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
