"""What the end of a run says of its delivery: each sentence, and when it is not said."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trackside.journal.meta import State, WorkerState
from trackside.session.last_words import describe_delivery, describe_offline, describe_rest

if TYPE_CHECKING:
    from trackside.events import FinalStatus

NAMES = {"mlflow": "MLflow", "second": "destination second"}
DOWN = WorkerState(error="connection refused")
REFUSED = WorkerState(refused="no such project")


@pytest.mark.parametrize(
    ("workers", "status", "lacking", "at_work", "text"),
    [
        (
            {},
            None,
            ["mlflow"],
            "ours",
            "MLflow has not taken everything yet (it takes longer than 2 s)",
        ),
        (
            {},
            None,
            ["mlflow"],
            "none",
            "MLflow has not taken everything yet (no shipper is at work)",
        ),
        (
            {},
            None,
            ["mlflow"],
            "queued",
            "MLflow has not taken everything yet (its shipper waits for its turn)",
        ),
        (
            {"mlflow": WorkerState("FINISHED", finished=True), "second": DOWN},
            "FINISHED",
            ["second"],
            "ours",
            "destination second has not taken everything yet (connection refused)",
        ),
        (
            {"mlflow": DOWN, "second": DOWN},
            None,
            ["mlflow", "second"],
            "ours",
            "MLflow and destination second have not taken everything yet (connection refused)",
        ),
        (
            {"mlflow": WorkerState("FINISHED", finished=True), "second": REFUSED},
            "FINISHED",
            ["second"],
            "ours",
            "destination second has failed permanently (no such project)",
        ),
        (
            {"mlflow": WorkerState()},
            "FINISHED",
            [],
            "ours",
            "MLflow has not taken the last of it yet (it takes longer than 2 s)",
        ),
    ],
)
def test_what_is_missing(
    workers: dict[str, WorkerState], status: FinalStatus | None, lacking: list[str], at_work: str, text: str
) -> None:
    """The one that lacks something is named, with its own reason, and the seconds are those of the wait."""
    state = State(pid=1, workers=workers, status=status)
    assert describe_rest(state, lacking, NAMES, waited=2.0, at_work=at_work) == text  # type: ignore[arg-type]


def test_how_it_goes_out() -> None:
    """No shipper is promised that is not there, nor for longer than it can live."""
    assert "(process 7) keeps trying for up to 60 minutes after" in describe_delivery("ours", 7)
    assert "keeps trying until the container ends" in describe_delivery("ours", 7, in_container=True)
    for at_work in ("starting", "queued", "another", "none"):
        told = describe_delivery(at_work, 7)
        assert "keeps trying" not in told
        assert "`trackside sync`" in told
    assert describe_delivery("none", None).startswith("No shipper is at work on it")
    assert "Remove the cause, then run" in describe_delivery("ours", 7, refused=True)


def test_an_offline_run_with_losses() -> None:
    """Not all of it is kept."""
    assert (
        describe_offline("here", 0) == "offline: the run is kept in here. To deliver it, run `trackside sync`"
    )
    assert "except 3 points" in describe_offline("here", 3)
