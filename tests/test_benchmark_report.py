"""The benchmarks that deliver run, and the page of results is made from the results that exist."""

from __future__ import annotations

import math
import statistics
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.headline import BEGIN, END, renewed
from benchmarks.report import main as report
from benchmarks.results import Results, load
from benchmarks.sections import FAULTS
from benchmarks.spread import interval
from benchmarks.targets import targets_table
from tests.faults.postgres import find_programs

if TYPE_CHECKING:
    from benchmarks.worker import Figures

ROOT = Path(__file__).parent.parent
MACHINE = {"processor": "an abacus", "Python": "3.11", "load": "0.1"}


def run(module: str, *arguments: object) -> str:
    """What ``python -m benchmarks.MODULE`` prints."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def write(directory: Path, benchmark: str, *measured: Figures) -> None:
    """Results of one round."""
    rounds = {f"case {number}": [found] for number, found in enumerate(measured)}
    Results(benchmark, rounds, MACHINE, f"python -m benchmarks.{benchmark}", "today").save(
        directory / f"{benchmark}.json"
    )


def logged(logger: str, median: float, metrics: int = 10, values: str = "floats") -> Figures:
    """What cost_of_log would have found."""
    tail = {"p99": 2 * median, "p99.9": 2.5 * median}
    figures = {f"loop_{name}": figure for name, figure in {"median": median, "mean": median, **tail}.items()}
    line = {
        "step": 450.0,
        "by_line": median / 20,
        "tail": 2.5,
        "empty_p99.9": 9.0,
        "empty_tail": 9 / median,
        "loop_calls": 4000,
    }
    return {"logger": logger, **case(metrics, values), **figures, **line, "tight_median": median / 4}


def case(metrics: int, values: str) -> Figures:
    """What cost_of_log tells one measurement from others by."""
    return {"metrics": metrics, "values": values, "busy": False, "threads": 1}


def kept(logger: str, median: float) -> Figures:
    """What cost_of_artifacts would have found."""
    figures = {"loop_median": median, "loop_p99": 2 * median, "loop_max": 9 * median, "loop_calls": 100}
    return {"logger": logger, "kind": "an image", **figures, "step": 450.0, "step_ratio": 1.01}


def delivered(way: str, rate: float) -> Figures:
    """What delivery would have found."""
    return {"place": "sqlite", "way": way, "points": 1000, "keys": 10, "rate": rate, "cpu": 10 / rate}


def grown(points: int) -> Figures:
    """What scale would have found."""
    ends = {
        f"{name}_{end}": 100.0
        for name in ("emit", "trainer", "trainer_own", "shipper", "shipper_own")
        for end in ("first", "last")
    }
    fields = ["seconds", "points", "trainer", "trainer_own", "shipper", "shipper_own"]
    case = {"growth": "points", "way": "trackside", "points": points, "keys": 10, "metrics": 10}
    memory = [[second, second * points / 4, 100, 50, 200, 150] for second in range(5)]
    return {**case, **ends, "rate": 4e4, "journal_bytes": 24.5, "memory": memory, "memory_fields": fields}


def caught_up() -> Figures:
    """What outage would have found."""
    phases = {
        phase: {"steps": 9, "p50": 5.0, "p99": 9.0, "max": 9.5} for phase in ("before", "during", "after")
    }
    backlog = [[0.0, 10, 5.0], [1.0, 1000, 6.0], [2.0, 0, 5.0]]
    figures = {"seconds": 1.0, "rate": 1000.0, "caught_up": True, "outage_at": 0.5, "up_at": 1.0}
    return {"place": "sqlite", "points": 1000, **figures, **phases, "backlog": backlog}


def fleet(runs: int) -> Figures:
    """What fleet would have found."""
    case = {"store": "stock store", "runs": runs, "workers": 4, "outage": 60.0, "seconds": 210.0}
    looks = [[0.0, 0, 0, 0, 0.0, 0.0, 0.0], [90.0, 200 * runs, 700 * runs, 900, 50.0, 9.0, 20.0]]
    figures = {"rate": 10.0 * runs, "requests_s": 1.0 * runs, "visible_median": 0.5, "server_cpu": 0.1}
    counts = dict.fromkeys(FAULTS, 0)
    return {**case, **figures, **counts, "logged": 2100 * runs, "up_again": 140.0, "looks": looks}


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Results of most benchmarks, some of which failed in part."""
    directory = tmp_path / "results"
    write(
        directory,
        "cost_of_log",
        logged("trackside", 9.0),
        logged("trackside", 43.0, metrics=100),
        logged("trackside", 12.0, values="torch"),
        logged("mlflow", 6000.0),
        {"logger": "aim", **case(10, "floats"), "error": "ImportError: no aim"},
    )
    write(directory, "cost_of_artifacts", kept("trackside", 60.0), kept("mlflow", 600.0))
    write(
        directory,
        "delivery",
        delivered("log_batch by hand", 1000),
        delivered("trackside", 8000),
        {"place": "sqlite", "way": "trackside, bulk store off", "points": 1000, "error": "it broke"},
    )
    write(directory, "scale", grown(1000), grown(10_000))
    write(directory, "outage", caught_up())
    write(directory, "fleet", fleet(10), fleet(100))
    write(directory, "start_and_end", {"logger": "trackside", "import": 0.1, "start": 2.0, "end": 0.2})
    step = {"shape": "small", "metrics": 10, "median": 350.0, "mean": 360.0, "p99": 400.0, "pairs": 99}
    ratio = {"ratio": 1.01, "ratio_low": 1.0, "ratio_high": 1.03}
    names = ("no logging", "trackside")
    write(directory, "training_step", *({**step, **ratio, "logger": name} for name in names))
    return directory


def make_page(results: Path, directory: Path) -> str:
    """The page from ``results``, in ``directory``."""
    directory.mkdir()
    page = directory / "benchmarks.md"
    done = CliRunner().invoke(
        report, ["--results", str(results), "--page", str(page)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return page.read_text("utf-8")


@pytest.mark.outside  # it draws
def test_the_page_tells_what_was_reached_and_what_was_not(results: Path, tmp_path: Path):
    """A table of targets with what was measured, reached or not; what was not measured says so."""
    page = make_page(results, tmp_path / "docs")
    loop = "| in the loop, a log of"
    assert f"{loop} 10 floats, by a JSON line by hand | ≤ 0.5 | 0.45 | yes |" in page
    assert f"{loop} 100 floats, median | ≤ 30 µs | 43.00 µs | **no** |" in page
    assert f"{loop} 10 torch CPU scalars, above 10 floats | ≤ 4 µs | 3.00 µs | yes |" in page
    assert (
        "| a short step that logs 10 metrics, times one that does not | ≤ 1.02 | 1.01 | cannot tell |" in page
    )
    assert "| into sqlite, times `log_batch` by hand | ≥ 6 | 8.00 | yes |" in page
    assert "| into postgresql, times `log_batch` by hand | ≥ 5 | not measured | - |" in page
    assert "last quarter of 10,000 points by the first | ≤ 1.05 | 1.00 | yes |" in page


@pytest.mark.parametrize(
    ("tail", "noise", "met"), [(2.5, 9, "yes"), (4, 2, "**no**"), (4, 3.5, "cannot tell")]
)
def test_a_tail_no_longer_than_the_machines_own_is_not_held_against_the_logger(
    tail: float, noise: float, met: str
):
    """Where an empty call has a tail as long as what is allowed, the figures can't tell whose it is."""
    figures = {**logged("trackside", 9.0), "tail": tail, "empty_tail": noise}
    results = Results("cost_of_log", {"case": [figures]}, MACHINE, "command", "today")
    rows = {row[0]: row[3] for row in targets_table({"cost_of_log": results}).rows}
    assert rows["in the loop, a log of 10 floats, p99.9 by median"] == met


@given(st.lists(st.floats(0.5, 2), max_size=200))
def test_the_bounds_of_a_median_hold_it(values: list[float]):
    """They are two of the values, one on each side of the median; fewer than six values bound nothing."""
    low, high = interval(values)
    if len(values) < 6:
        assert (low, high) == (0, math.inf)
    else:
        assert low in values
        assert high in values
        assert low <= statistics.median(values) <= high


def test_the_bounds_of_a_median_are_those_of_the_tables():
    """At 95 %: of 20 values the 6th and the 15th, of 100 the 40th and the 61st."""
    assert interval(range(1, 21)) == (6, 15)
    assert interval(range(1, 101)) == (40, 61)


def test_the_table_in_the_readme_is_renewed(results: Path):
    """Between its comments, cheapest first. The rest of the page stays; without results, all of it."""
    text = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    found = {"cost_of_log": load("cost_of_log", results)}
    new = renewed(text, found)
    assert "old" not in new
    assert new.startswith(f"before\n{BEGIN}\n\n| logger | in the loop: median |")
    assert new.endswith(f"{END}\nafter\n")
    assert new.index("| trackside |") < new.index("| mlflow |")
    assert "a training step of 450 µs" in new
    assert renewed(new, found) == new
    assert renewed(text, {}) == text


def test_the_readme_has_the_comments():
    """Else its table would never be renewed."""
    text = (ROOT / "README.md").read_text("utf-8")
    assert text.index(BEGIN) < text.index(END)


@pytest.mark.outside  # it draws
def test_the_page_compares_files(results: Path, tmp_path: Path):
    """A table for each kind, with what a call costs by trackside's."""
    page = make_page(results, tmp_path / "docs")
    assert "An image, behind a step of 450 (450-450) µs, in µs:" in page
    assert "| trackside | 60 | 1.00 | 120 | 540 | 100 | 1.01 |" in page
    assert "| mlflow | 600 | 10.00 | 1,200 | 5,400 | 100 | 1.01 |" in page


@pytest.mark.outside  # it draws
def test_the_page_leaves_out_what_there_are_no_results_for(results: Path, tmp_path: Path):
    """With a note; what failed in part shows why."""
    page = make_page(results, tmp_path / "docs")
    assert "Not measured yet: `python -m benchmarks.survival`." in page
    assert "| trackside, bulk store off | failed: it broke |" in page
    assert "| aim | failed: ImportError: no aim |" in page
    assert "an abacus" in page


@pytest.mark.outside  # it draws
def test_the_plots_are_made_and_shown(results: Path, tmp_path: Path):
    """Each as PNG and as SVG, and those only."""
    page = make_page(results, tmp_path / "docs")
    plots = tmp_path / "docs" / "benchmarks" / "plots"
    names = {"cost_of_log", "cost_by_metrics", "training_step", "delivery", "growth", "memory", "outage"}
    names |= {"fleet", "fleet_course"}
    assert {path.name for path in plots.iterdir()} == {
        f"{name}.{kind}" for name in names for kind in ("png", "svg")
    }
    assert all(f"(benchmarks/plots/{name}.svg)" in page for name in names)


@pytest.mark.slow
@pytest.mark.outside  # it draws
def test_the_same_results_make_the_same_files(results: Path, tmp_path: Path):
    """To the byte, so that a diff shows what has changed."""
    made = []
    for name in ("first", "second"):
        make_page(results, tmp_path / name)
        made.append({p.name: p.read_bytes() for p in (tmp_path / name).rglob("*") if p.is_file()})
    assert made[0] == made[1]


@pytest.mark.outside  # it draws
def test_a_page_can_be_made_of_nothing(tmp_path: Path):
    """Where no benchmark has been run, every section says so."""
    page = make_page(tmp_path / "nowhere", tmp_path / "docs")
    assert page.count("Not measured yet") == 10  # the headline and nine sections


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("benchmark", "arguments", "fields"),
    [
        pytest.param(
            "delivery",
            ["--only", "sqlite", "--points", 2000],
            {"way", "place", "points", "keys", "seconds", "rate", "cpu"},
            id="delivery",
        ),
        pytest.param(
            "scale",
            ["--only", "keys", "--keys", 10, "--points", 2000],
            {"growth", "way", "points", "keys", "metrics", "rate"},
            id="scale",
        ),
        pytest.param(
            "outage",
            ["--only", "sqlite", "--points", 2000, "--calm", 0.5],
            {"place", "points", "caught_up", "seconds", "rate", "before", "during", "after", "backlog"},
            id="outage",
        ),
    ],
)
def test_a_benchmark_runs(tmp_path: Path, benchmark: str, arguments: list[Any], fields: set[str]):
    """With little to do: every way says all that the page wants."""
    found = played(tmp_path, benchmark, arguments)
    assert found.rounds
    for key, rounds in found.rounds.items():
        assert "error" not in rounds[0], (key, rounds)
        assert fields <= set(rounds[0]), key


@pytest.mark.slow
@pytest.mark.postgres
@pytest.mark.timeout(900)
def test_a_fleet_arrives_whole(tmp_path: Path):
    """A few runs through an outage: each point once, with its value, and all runs ended."""
    pytest.importorskip("psycopg2")
    if find_programs() is None:
        pytest.skip("PostgreSQL is not installed")
    sizes = ["--runs", 3, "--seconds", 6, "--outage", 1, "--workers", 1, "--only", "bulk store"]
    ((figures,),) = played(tmp_path, "fleet", sizes).rounds.values()
    assert "error" not in figures, figures
    assert {name: figures[name] for name in FAULTS} == dict.fromkeys(FAULTS, 0)
    assert figures["logged"] > 0


def played(directory: Path, benchmark: str, arguments: list[Any]) -> Results:
    """One round."""
    run(benchmark, "--rounds", 1, "--json", directory / f"{benchmark}.json", *arguments)
    found = load(benchmark, directory)
    assert found is not None
    return found
