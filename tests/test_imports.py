"""What importing and using trackside brings into a training process, and what it does not."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from tests.support.program import run_python

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {"torch", "mlflow", "numpy", "pandas", "sqlalchemy", "requests", "yaml", "rich", "click"}
HEAVY |= {"prometheus_client"}


def packages_after(script: str, **environment: str) -> set[str]:
    """The top-level packages, the standard library's apart, that the script leaves loaded."""
    report = (
        "\nimport json, sys\n"
        "names = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names\n"
        "print(json.dumps(sorted(name for name in names if not name.startswith('__'))))"
    )
    done = run_python(
        "-c", f"import sys\nbefore = set(sys.modules)\n{script}{report}", env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.wheel
def test_importing_trackside_loads_next_to_nothing() -> None:
    """Neither torch nor mlflow nor numpy, and of its own parts only the events."""
    found = packages_after("import trackside")
    assert not found & HEAVY
    script = "import sys, trackside\nassert not {'trackside.session.start', 'blinker'} & set(sys.modules)"
    packages_after(script)


def test_the_public_modules_load_nothing_heavy() -> None:
    """What a training imports by name is as light."""
    script = (
        "import trackside.sinks, trackside.lifecycle.hooks, trackside.lifecycle.subscriber\n"
        "import trackside.errors\n"
        "import trackside.coerce, trackside.params, trackside.mlflow_utils, trackside.protocols\n"
    )
    assert not packages_after(script) & HEAVY


def test_a_sink_loads_what_it_needs_when_it_is_used() -> None:
    """Naming all of them loads neither rich nor prometheus_client. Making them loads one of these."""
    script = "from trackside.sinks import *\nConsoleSink(), MemorySink(), EarlyStopping('val/loss')"
    assert not packages_after(script) & HEAVY
    found = packages_after("from trackside.sinks import *\nPrometheusSink()")
    assert "prometheus_client" in found
    assert "rich" not in found


RUN = """
import trackside
with trackside.start("x", config={"lr": 0.1, "layers": [1, 2]}, tags={"a": 1}) as run:
    trackside.log({"loss": 0.5}, step=1)
    trackside.emit(trackside.ConfigEvent({"more": 1}))
    run.flush(0.1)
"""


def test_a_run_loads_nothing_heavy_into_the_training(tmp_path: Path) -> None:
    """The shipper imports mlflow. The training process, on rank 0, does not."""
    journals = str(tmp_path / "journals")
    found = packages_after(RUN, TRACKSIDE_MODE="offline", TRACKSIDE_DIR=journals)
    assert not found & HEAVY


@pytest.mark.wheel
def test_another_rank_is_inert(tmp_path: Path) -> None:
    """It writes nothing, starts nothing, loads nothing, and every call works."""
    script = """
import os, sys, trackside
hooks = (sys.excepthook, sys.exit)
run = trackside.start("x", config={"lr": 0.1}, sinks=[])
with run as same:
    assert same is run
    trackside.log({"loss": 0.5}, step=1)
assert (run.run_id, run.url, run.flush(), run.dropped) == (None, "", True, 0)
run.finish()
assert (sys.excepthook, sys.exit) == hooks
assert not os.path.exists(os.environ["TRACKSIDE_DIR"])
assert not {"trackside.shipper.service", "mlflow"} & set(sys.modules)
"""
    found = packages_after(script, RANK="1", TRACKSIDE_DIR=str(tmp_path / "journals"))
    assert not found & HEAVY
    assert list(tmp_path.iterdir()) == []
