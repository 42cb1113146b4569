"""The benchmarks run and write what the report reads. How long anything takes is no test's business."""

from __future__ import annotations

import importlib
import json
import sys
import types
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from benchmarks.artifacts.things import IMAGE, TEXT
from benchmarks.cost_of_log import main as cost_of_log
from benchmarks.hot_path import main as hot_path
from benchmarks.loggers import BY_HAND
from benchmarks.worker import ROOT
from tests.ends.harness import new_database

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.process,
    pytest.mark.timeout(400),
]  # the shipper has low priority: on a busy machine it takes its time

FIGURES = ("calls", "median", "mean", "p99", "max")
TIGHT = {f"tight_{figure}" for figure in FIGURES}
IN_LOOP = {f"{call}_{figure}" for call in ("loop", "line", "empty") for figure in FIGURES} | {
    "step",
    "by_line",
}
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


LITTLE = ("--metrics", "2", "--seconds", "0.2", "--loop-seconds", "0.2")


@pytest.mark.torch
def test_cost_of_log(tmp_path: Path):
    """Each library behind training steps, beside a JSON line and an empty call, and in a tight loop."""
    found = rounds(tmp_path, "cost_of_log", "--only", "trackside", "--only", BY_HAND, *LITTLE)
    figures = only(found, {*TIGHT, *IN_LOOP, "metrics", "values", "busy", "threads"}, 2)
    assert {one["logger"] for one in figures} == {"trackside", BY_HAND}


@pytest.mark.torch
def test_cost_of_artifacts(tmp_path: Path):
    """Each kind behind training steps, and the steps beside it. What was not kept would be an error."""
    kinds = ("--kind", TEXT, "--kind", IMAGE)
    found = rounds(tmp_path, "cost_of_artifacts", "--only", "trackside", *kinds, "--seconds", "0.3")
    figures = {f"loop_{figure}" for figure in FIGURES} | {"step", "step_with", "step_ratio", "kind"}
    assert {one["kind"] for one in only(found, figures, 2)} == {TEXT, IMAGE}


def test_without_torch_there_is_no_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The column is left out, and the reason is printed."""
    monkeypatch.setattr("benchmarks.cost_of_log.has_torch", lambda: False)
    path = tmp_path / "results.json"
    done = CliRunner().invoke(
        cost_of_log, ["--json", str(path), "--rounds", "1", "--only", f"{BY_HAND}, flushed", *LITTLE]
    )
    assert done.exit_code == 0, done.output
    assert "torch is not installed" in done.output
    assert "in the loop: median" not in done.output
    ((figures,),) = json.loads(path.read_text())["rounds"].values()
    assert figures.keys() >= TIGHT
    assert not figures.keys() & IN_LOOP


@pytest.mark.parametrize(("values", "said"), [("cuda", "needs a GPU"), ("torch", "torch is not installed")])
def test_values_that_there_are_none_of_are_refused(values: str, said: str, monkeypatch: pytest.MonkeyPatch):
    """Before anything is measured."""
    torch = types.SimpleNamespace(cuda=types.SimpleNamespace(is_available=lambda: False))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setattr("benchmarks.cost_of_log.has_torch", lambda: values == "cuda")
    done = CliRunner().invoke(cost_of_log, ["--values", values, "--json", "/nowhere/at/all.json"])
    assert done.exit_code == 1
    assert f"--values {values}" in done.output
    assert said in done.output


@pytest.mark.torch
def test_training_step(tmp_path: Path):
    """Steps with and without a library in turns, and the same without any library."""
    found = rounds(tmp_path, "training_step", "--only", BY_HAND, "--seconds", "0.1")
    figures = only(found, {*FIGURES, "shape", "metrics", "ratio", "ratio_low", "ratio_high"}, 2)
    assert {one["logger"] for one in figures} == {"no logging", BY_HAND}
    assert all(one["ratio_low"] <= one["ratio"] <= one["ratio_high"] for one in figures)


@pytest.mark.torch
def test_hot_path():
    """Both places of a case, before and after, with the bounds of the ratio."""
    arguments = ["--against", str(ROOT), "--blocks", "6", "--case", "2 floats"]
    done = CliRunner().invoke(hot_path, arguments, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    rows = [line.split("│") for line in done.output.splitlines() if "2 floats" in line and "│" in line]
    assert [row[2].strip() for row in rows] == ["loop", "tight"]
    for row in rows:
        ratio, low, high = map(float, row[5:8])
        assert low <= ratio <= high


def test_hot_path_says_what_it_could_not_find(tmp_path: Path):
    """Neither a directory nor a commit."""
    done = CliRunner().invoke(hot_path, ["--against", str(tmp_path / "nowhere")])
    assert done.exit_code == 1
    assert "nowhere" in done.output


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
