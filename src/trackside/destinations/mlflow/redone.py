"""Steps that a resumed run gets a second time. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trackside.journal.format import MetricsRecord

SAMPLES = 10_000
"""How many samples are checked. By then a training has logged each of its names."""

_SYSTEM = "system/"


def last_steps(run: Any) -> dict[str, int]:
    """The last step of each metric of ``run``, an MLflow run. The machine's load has steps of its own."""
    metrics = run.to_proto().data.metrics
    return {metric.key: metric.step for metric in metrics if not metric.key.startswith(_SYSTEM)}


class RedoneSteps:
    """Tells once that an attempt begins at a step which the run already has.

    ``last``: the last step of each metric, from the attempts before.
    """

    def __init__(self, last: dict[str, int], *, run_id: str, notice: Callable[[str], None]) -> None:
        self._last = dict(last)
        self._left = SAMPLES
        self._run_id = run_id
        self._notice = notice

    def check(self, batch: Sequence[MetricsRecord], valid: Callable[[str], str]) -> None:
        """Look at the first step of each metric. ``valid`` gives a metric's name in MLflow."""
        if not self._last:
            return
        for record in batch:
            for name in map(valid, record.named_values()):
                last = self._last.pop(name, None)
                if last is not None and record.step <= last:
                    self._tell(name, record.step, last)
                    return
        self._left -= len(batch)
        if self._left <= 0:
            self._last = {}

    def _tell(self, name: str, step: int, last: int) -> None:
        self._last = {}
        redone = f"steps {step} to {last} are redone" if step < last else f"step {step} is redone"
        self._notice(
            f"{redone}: run {self._run_id} has {name!r} up to step {last} from the "
            f"attempt before, and this attempt begins at step {step}. Charts show both values of such "
            "a step. To have a run for each attempt, pass resume=False"
        )
