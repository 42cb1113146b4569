"""Which step a measurement belongs to, in the numbers that you log.

A watch counts the optimizer's steps. You may count from another start, or count batches of which several
make one step of the optimizer. So the watch looks at the step of your latest log whenever the optimizer
steps, and numbers its own samples to match: a log that came after the optimizer's 40th step, with step 159,
says that the 41st will be logged as 163 if the 39th was 155.

Invariants:

* Steps that a watch has logged are never taken for yours. Two watches would lead each other astray.
* A log with a lower step than an earlier one changes nothing. Validation is often logged by epoch.
* Until you have logged something, measurements wait, because a resumed training does not begin with step 0.
  That lasts for :data:`PATIENCE` steps of the optimizer.
"""

from __future__ import annotations

from typing import NamedTuple

PATIENCE = 64
"""Steps of the optimizer. If none of them was logged, they are counted from 0."""


class OwnLog(NamedTuple):
    """The last log of a watch."""

    step: int
    before: int | None
    """The step of your last log, as it was then."""

    def users_step(self, latest: int | None) -> int | None:
        """The step of your last log. ``latest`` is that of the last one, whosever it is."""
        return self.before if latest == self.step else latest


class _Anchor(NamedTuple):
    """A log of yours, seen after so many steps of the optimizer."""

    after: int
    step: int


class StepNumbers:
    """The numbers of one watch."""

    def __init__(self) -> None:
        self.count = 0
        """Steps that the optimizer has taken."""
        self._latest: int | None = None
        self._anchor: _Anchor | None = None
        self._rate = 1.0

    @property
    def is_known(self) -> bool:
        """Whether a log of yours has told how you count."""
        return self._anchor is not None

    def note_step(self, latest: int | None) -> None:
        """The optimizer has taken a step. ``latest``: the step that you have logged last."""
        if latest is not None and latest != self._latest:
            self._latest = latest
            self._note_log(latest)
        self.count += 1

    def number(self, count: int) -> int:
        """The step to log for the optimizer's step ``count``, which begins with 1."""
        anchor = self._anchor or _Anchor(1, 0)
        return max(0, anchor.step + round(self._rate * (count - anchor.after)))

    def _note_log(self, step: int) -> None:
        before = self._anchor
        if before is None:
            self._anchor = _Anchor(self.count, step)
        elif step > before.step and self.count > before.after:
            self._rate = (step - before.step) / (self.count - before.after)
            self._anchor = _Anchor(self.count, step)
