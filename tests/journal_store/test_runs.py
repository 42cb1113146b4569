"""What the journal store keeps of the runs that a program reads."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from trackside.journal_store.runs import MOST_SEEN, Runs


class Asked:
    """A store of MLflow's that counts how often it is asked for a run."""

    def __init__(self) -> None:
        self.run_ids: list[str] = []

    def get_run(self, run_id: str) -> Any:
        self.run_ids.append(run_id)
        return run_of(run_id)


def run_of(run_id: str) -> Any:
    """A run, as far as the store looks at it."""
    return SimpleNamespace(info=SimpleNamespace(run_id=run_id))


def test_runs_that_are_only_read_do_not_pile_up() -> None:
    """The latest are kept, and so is a run that the program has created to log into later."""
    inner = Asked()
    runs = Runs(inner, "sqlite:///mlflow.db")
    runs.made(run_of("mine"), None)
    for number in range(2 * MOST_SEEN):
        runs.saw(run_of(str(number)))
    for run_id in ("mine", str(2 * MOST_SEEN - 1), "0"):
        assert runs.info(run_id).run_id == run_id
    assert inner.run_ids == ["0"]
