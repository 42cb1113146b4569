"""What a run has to show before the points that its server acknowledged count as delivered."""

from __future__ import annotations

import pytest

from trackside.destinations.mlflow.metrics import SHOWN_WHOLE, LastPoints
from trackside.destinations.mlflow.tracking import Run, RunData, RunDescription

LATE = 1_700_000_000_500


def run_with(*metrics: tuple[str, int, int]) -> Run:
    """A run that shows these metrics: name, step, time in milliseconds."""
    return Run(RunDescription("id"), RunData(last={key: (step, at) for key, step, at in metrics}))


@pytest.mark.parametrize(
    ("shown", "missing"),
    [
        ([("loss", 7, LATE)], []),
        ([("loss", 8, 0)], []),
        ([("loss", 7, LATE - 500)], []),
        ([("Loss", 7, LATE)], []),
        ([("loss", 6, LATE)], ["loss"]),
        ([("loss", 7, LATE - 5000)], ["loss"]),
        ([("Loss", 6, LATE)], ["loss"]),
        ([("accuracy", 7, LATE)], ["loss"]),
        ([], ["loss"]),
    ],
    ids=[
        "the point", "a later one", "a time in whole seconds", "names without case", "an earlier step",
        "an earlier time", "another's earlier step", "another metric", "nothing",
    ],
)  # fmt: skip
def test_a_point_is_proven_by_what_the_run_shows(
    shown: list[tuple[str, int, int]], missing: list[str]
) -> None:
    """The last point of each metric, or a later one. Servers may round times, and fold the case of names."""
    last = LastPoints()
    last.note([("loss", 0.5, LATE, 7), ("loss", 0.25, LATE, 5)])
    assert last.missing_in(run_with(*shown)) == missing


def test_a_run_of_many_metrics_may_be_shown_in_part() -> None:
    """A metric that is absent among a thousand proves nothing. One that is shown, and too old, does."""
    last = LastPoints()
    last.note([("loss", 0.5, LATE, 7), ("m0", 0.5, LATE, 7)])
    shown = [(f"m{number}", 6, LATE) for number in range(SHOWN_WHOLE)]
    assert last.missing_in(run_with(*shown)) == ["m0"]
