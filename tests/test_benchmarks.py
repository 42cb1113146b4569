"""The benchmarks run and write what the report reads. How long anything takes is no test's business."""

from __future__ import annotations

import importlib
import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from tests.ends.harness import new_database

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(400),
]  # the shipper has low priority: on a busy machine it takes its time

TIMES = {"calls", "median", "mean", "p99", "p99.9", "max"}
COUNTS = {"logged", "kept", "lost", "partial", "doubles", "status", "left"}
MOMENTS = {"python", "import", "start", "until_started", "end", "samples"}


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty store, from which the benchmark's workers take theirs."""
    new_database(tmp_path)
    monkeypatch.setenv("BENCHMARKS_STORE", str(tmp_path / "mlflow.db"))


def rounds(directory: Path, name: str, *arguments: str) -> dict[str, list[dict[str, Any]]]:
    """Run the benchmark; what it saved."""
    path = directory / "results.json"
    main = importlib.import_module(f"benchmarks.{name}").main
    done = CliRunner().invoke(main, ["--quick", "--json", str(path), *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(path.read_text())
    assert found["benchmark"] == name
    kept: dict[str, list[dict[str, Any]]] = found["rounds"]
    return kept


def only(found: dict[str, list[dict[str, Any]]], fields: set[str], count: int) -> list[dict[str, Any]]:
    """The figures of ``count`` measurements, of one round each, with those fields."""
    figures = [one for each in found.values() for one in each]
    assert len(figures) == len(found) == count
    for one in figures:
        assert one.keys() >= {"logger", *fields}, one
    return figures


def test_cost_of_log(tmp_path: Path):
    """Each library alone and beside a busy thread."""
    found = rounds(tmp_path, "cost_of_log", "--only", "trackside", "--only", "mlflow", "--seconds", "0.2")
    figures = only(found, {*TIMES, "metrics", "values", "busy", "threads"}, 4)
    assert {one["logger"] for one in figures} == {"trackside", "mlflow"}


@pytest.mark.torch
def test_training_step(tmp_path: Path):
    """A library beside no logging."""
    found = rounds(tmp_path, "training_step", "--only", "trackside", "--seconds", "0.1")
    figures = only(found, {*TIMES, "length", "metrics"}, 2)
    assert {one["logger"] for one in figures} == {"no logging", "trackside"}


def test_start_and_end(tmp_path: Path):
    """Without a shipper it is over soonest."""
    found = rounds(tmp_path, "start_and_end", "--only", "trackside, offline")
    only(found, MOMENTS, 1)


def test_survival(tmp_path: Path):
    """Whatever was logged before the kill is kept, once, and the run is FAILED."""
    found = rounds(tmp_path, "survival", "--only", "trackside", "--samples", "1000")
    (figures,) = only(found, {*COUNTS, "end"}, 1)
    assert (figures["end"], figures["status"], figures["lost"], figures["doubles"]) == (
        "killed",
        "FAILED",
        0,
        0,
    )


def test_a_library_that_is_not_there_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its error is in the results, and nothing else of it."""
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "no such experiment")
    found = rounds(tmp_path, "survival", "--only", "mlflow", "--samples", "5")
    (figures,) = only(found, {"end", "error"}, 1)
    assert "no such experiment" in figures["error"]
