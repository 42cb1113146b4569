"""The README and the pages in docs/: their examples run, and what they list is all there is."""

from __future__ import annotations

import ast
import inspect
import os
import re
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

import trackside
from tests.ends.harness import new_database
from tests.support import recorder
from tests.support.program import run_python

ROOT = Path(__file__).parent.parent
SOURCE = Path(trackside.__file__).parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
KEEPS = re.compile(r"assert|open\(|checkpoint|read_|Path\(|destinations")
"""What an example does that its last run may get in the way of."""
LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)\)")
MIGRATION = re.compile(r"mlflow\.store\.db\.utils|alembic\.runtime")
"""What MLflow 3.6 says when its client makes the tables of a new database."""
FINISHED = re.compile(r"starting a new run: .* names run .*FINISHED")
"""What is rightly said the second time, of checkpoints whose run is finished."""
VARIABLE = re.compile(r"\b(?:TRACKSIDE|MLFLOW)_[A-Z_]*[A-Z]\b")

ABOUT_MLFLOW = re.compile(r"mlflow|checkpoint|parent|run_id")
"""What an example has that only MLflow can show. The others run against a recorder, which is faster."""
EXAMPLES = [
    pytest.param(
        block,
        id=f"{page.stem}-{number}",
        marks=[
            pytest.mark.process,
            *([pytest.mark.torch] if "import torch\n" in block else []),
        ],
    )
    for page in PAGES
    for number, block in enumerate(BLOCK.findall(page.read_text("utf-8")), start=1)
]
RECORDED = f"{recorder.IN_A_SCRIPT}import runpy\nrunpy.run_path('example.py', run_name='__main__')"
PATIENCE = {"TRACKSIDE_START_TIMEOUT": "60", "TRACKSIDE_EXIT_TIMEOUT": "60"}
NO_BAR = {"MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false"}
"""MLflow draws one on stderr for a download."""
INTERNAL = {
    "TRACKSIDE_PARENT_FOLDER",
    "TRACKSIDE_SHIPPER_TRACKING_URI",
    "TRACKSIDE_SHIPPER_OPTIONS",
    "TRACKSIDE_SHIPPER_PATH",
}


def run_example(block: str, directory: Path) -> str:
    """Run ``block`` as a program of its own, in a directory with an MLflow store if it is about MLflow."""
    on_mlflow = ABOUT_MLFLOW.search(block) is not None
    again = (directory / "example.py").exists()
    if not again:
        if on_mlflow:
            new_database(directory)
        (directory / "example.py").write_text(block, "utf-8")
    done = run_python(
        *(["example.py"] if on_mlflow else ["-c", RECORDED]),
        cwd=directory,
        env={
            **os.environ,
            **PATIENCE,
            **NO_BAR,
            "PYTHONUTF8": "1",
            **({} if on_mlflow else recorder.environment(directory / "records")),
        },
    )
    expected = (MIGRATION, *([FINISHED] if again else []))
    said = [line for line in done.stderr.splitlines() if not any(known.search(line) for known in expected)]
    assert (done.returncode, said) == (0, [])
    return done.stdout


@pytest.mark.parametrize("block", EXAMPLES)
def test_every_example_runs(block: str, tmp_path: Path):
    """Copied into a file and run, it ends well and complains about nothing.

    So it does again in the same folder, where it looks at what it wrote or resumes what it kept.
    """
    run_example(block, tmp_path)
    if KEEPS.search(block):  # the others would but add a run
        run_example(block, tmp_path)


def test_the_readmes_example_does_what_it_says(tmp_path: Path):
    """The first thing a new user tries ends as a finished run with every point in it."""
    (block,) = BLOCK.findall((ROOT / "README.md").read_text("utf-8"))
    assert len(block.splitlines()) <= 15
    printed = run_example(block, tmp_path)
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("quickstart")
    assert experiment is not None
    (run,) = client.search_runs([experiment.experiment_id])
    assert printed == f"{run.info.run_id} FINISHED Counts(shipped=400, rejected=0, dropped=0)\n"
    assert run.info.status == "FINISHED"
    assert run.data.params == {"optimizer.name": "sgd", "optimizer.lr": "0.1", "steps": "200"}
    steps = [point.step for point in client.get_metric_history(run.info.run_id, "train/loss")]
    assert sorted(steps) == list(range(200))


def test_the_tutorial_builds_a_sink_in_ten_lines(tmp_path: Path) -> None:
    """The class has ten lines at most, blank ones apart, and its file has every point."""
    block = BLOCK.findall((ROOT / "docs" / "sinks.md").read_text("utf-8"))[0]
    (sink,) = [node for node in ast.parse(block).body if isinstance(node, ast.ClassDef)]
    lines = ast.unparse(sink).splitlines()
    assert len([line for line in lines if line.strip()]) <= 10
    run_example(block, tmp_path)
    written = (tmp_path / "metrics.csv").read_text("utf-8").split()
    assert written == [f"{step},{name}" for step in range(3) for name in (f"loss,{1 / (step + 1)}", "lr,0.1")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_not_published_is_not_installed_by_name(page: Path):
    """An index would answer with nothing, or with another project of that name."""
    assert re.findall(r"pip install (?:-U |--upgrade )?trackside\b", page.read_text("utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path):
    """Every relative link is to a file that is there."""
    targets = LINK.findall(page.read_text("utf-8"))
    missing = [t for t in targets if "://" not in t and not (page.parent / t).exists()]
    assert missing == []


def test_the_command_line_page_is_up_to_date():
    """docs/cli.md is what docs/generate.py makes of today's commands."""
    done = run_python(str(ROOT / "docs" / "generate.py"), "--check")
    assert (done.returncode, done.stderr) == (0, "")


def test_configuration_names_every_argument_of_start():
    """A new argument of start() gets a line, in the order of the signature."""
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    section = text.partition("## `trackside.start()`")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert documented == list(inspect.signature(trackside.start).parameters)


def test_configuration_names_every_variable():
    """Each variable of ours, and each of MLflow's that settings.py reads, has a line."""
    text = (ROOT / "docs" / "configuration.md").read_text("utf-8")
    ours = {name for path in SOURCE.rglob("*.py") for name in VARIABLE.findall(path.read_text())}
    ours = {name for name in ours if name.startswith("TRACKSIDE_")} - INTERNAL
    theirs = set(VARIABLE.findall((SOURCE / "settings.py").read_text("utf-8")))
    assert (ours | theirs) - set(VARIABLE.findall(text)) == set()


def test_every_page_can_be_found():
    """Each page in docs/ is linked from its index."""
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target in LINK.findall(index.read_text("utf-8"))}
    assert set(PAGES) - linked - {index} == set()
