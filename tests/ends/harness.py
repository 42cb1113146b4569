"""Plays one case: a real process that trains, is ended, and whose run is then read back.

``make matrix`` reads it back from MLflow. ``make test`` does so for a few cases. It reads the others back
from a recorder (:mod:`tests.support.recorder`), whose shipper need not import MLflow.
"""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mlflow.tracking import MlflowClient

from tests.support import recorder
from trackside.destinations.mlflow.tags import counts_in
from trackside.tag_names import HEARTBEAT_TAG

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow.entities import Run

SETTLE_TIMEOUT = 60.0
"""Seconds after the end within which the final status must be there."""

TIDY_TIMEOUT = 20.0
"""Seconds from then on within which the journal must be gone."""

PREAMBLE = """
import os, signal, sys, threading, time
import trackside

def confirm(i):
    os.pwrite(CONFIRMED, b"%8d" % i, 0)

CONFIRMED = os.open(os.environ["CASE_CONFIRMED"], os.O_RDWR | os.O_CREAT)

def emit(count, start=0):
    for i in range(start, start + count):
        trackside.log({"loss": 1.0 / (i + 1), "lr": 0.1}, step=i)
        confirm(i + 1)

def ready():
    print("ready", flush=True)
"""


@dataclass(frozen=True)
class Case:
    """One way to end. ``script`` runs after a preamble that offers ``emit(count)`` and ``ready()``.

    ``act`` is called with the process once it printed ``ready``. ``exit_code`` is what the process must
    leave with (negative: the signal), None where it is not to be checked. ``stderr`` must be in its output,
    and ``artifact`` among the run's artifacts.
    ``attempts`` is how many the run has. The counts on its page are checked where there is one.
    ``tidy``: the journal is gone afterwards, and not when the shipper was killed with the process.
    ``points`` is how many samples must be delivered. None: all that were confirmed before the end, or more.
    ``on_mlflow``: the case is about MLflow too, or is one of the few that `make test` plays on it.
    """

    name: str
    script: str
    status: str
    exit_code: int | None = 0
    points: int | None = 20
    act: Callable[[subprocess.Popen[str]], None] | None = None
    reason: str = ""
    stderr: str = ""
    artifact: str = ""
    command: tuple[str, ...] = ()
    slow: bool = False
    environment: dict[str, str] = field(default_factory=dict)
    attempts: int = 1
    tidy: bool = True
    on_mlflow: bool = False


@dataclass
class Outcome:
    """What was seen."""

    status: str = "NO RUN"
    reason: str = ""
    points: int = 0
    doubles: int = 0
    shipped: int | None = None
    artifacts: list[str] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    exit_code: int = 0
    confirmed: int = 0
    seconds: float = 0.0
    stderr: str = ""
    leftovers: list[str] = field(default_factory=list)
    shipper_log: str = ""


_template: Path | None = None


def new_database(directory: Path) -> str:
    """A fresh MLflow store in ``directory``, copied from one whose tables are made once."""
    global _template  # noqa: PLW0603 - made once a process
    if _template is None:
        folder = Path(tempfile.mkdtemp(prefix="trackside-template-"))
        MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
        _template = folder / "mlflow.db"
    shutil.copy(_template, directory / "mlflow.db")
    return f"sqlite:///{directory / 'mlflow.db'}"


def play(case: Case, directory: Path, *, on_mlflow: bool = True) -> Outcome:
    """Run the case in ``directory`` and report what MLflow, or else a recorder, has of it."""
    records, journals, confirmed = (directory / name for name in ("records", "journals", "confirmed"))
    uri = new_database(directory) if on_mlflow else ""
    script = directory / "train.py"
    head = PREAMBLE if on_mlflow else recorder.IN_A_SCRIPT + PREAMBLE
    script.write_text(head + textwrap.dedent(case.script))
    environment = {
        **os.environ,
        **({"MLFLOW_TRACKING_URI": uri} if on_mlflow else recorder.environment(records)),
        "TRACKSIDE_DIR": str(journals),
        "CASE_CONFIRMED": str(confirmed),
        "PYTHONUNBUFFERED": "1",
        **case.environment,
    }
    errors = directory / "stderr"
    with errors.open("wb") as stderr:
        process = subprocess.Popen(
            [*(case.command or (sys.executable,)), str(script)],
            cwd=directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        )
    if case.act is not None:
        wait_for_ready(process, errors)
        case.act(process)
    process.wait(timeout=120)
    ended = time.monotonic()
    assert process.stdout is not None
    process.stdout.close()
    wait_until_delivered(journals, SETTLE_TIMEOUT if case.tidy else 0.5)
    seen = _run_in_mlflow(uri) if on_mlflow else _recorded_run(records)
    seen.seconds = time.monotonic() - ended
    seen.exit_code, seen.stderr = process.returncode, errors.read_text()
    if confirmed.exists() and confirmed.stat().st_size:
        seen.confirmed = int(confirmed.read_text())
    seen.leftovers = wait_until_tidy(journals) if case.tidy else []
    seen.shipper_log = "\n".join(path.read_text() for path in journals.glob("*/shipper.log"))
    return seen


def wait_for_ready(process: subprocess.Popen[str], errors: Path) -> None:
    """Read the process's output up to the line ``ready``."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "ready":
            return
    raise AssertionError(f"the script ended before it was ready: {errors.read_text()}")


def wait_until_delivered(journals: Path, timeout: float = SETTLE_TIMEOUT) -> None:
    """Wait until every journal is gone, at most ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while any(journals.glob("*/meta.json")) and time.monotonic() < deadline:
        time.sleep(0.02)


def wait_until_settled(uri: str, journals: Path, timeout: float = SETTLE_TIMEOUT) -> Run | None:
    """The only run of the store, once every journal is gone or ``timeout`` seconds have passed."""
    wait_until_delivered(journals, timeout)
    return only_run(uri)


def only_run(uri: str) -> Run | None:
    """The only run of the store, or None."""
    client = MlflowClient(uri)
    runs = client.search_runs([e.experiment_id for e in client.search_experiments()])
    assert len(runs) <= 1, f"{len(runs)} runs were made"
    return runs[0] if runs else None


def wait_until_tidy(journals: Path) -> list[str]:
    """What is still there once the shipper, which may be removing it at this moment, has had its time."""
    deadline = time.monotonic() + TIDY_TIMEOUT
    while (left := _everything_in(journals)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _everything_in(place: Path) -> list[str]:
    # os.walk passes over what disappears under it.
    found = (Path(folder, name) for folder, *names in os.walk(place) for name in itertools.chain(*names))
    return sorted(str(path.relative_to(place)) for path in found)


def _run_in_mlflow(uri: str) -> Outcome:
    run = only_run(uri)
    if run is None:
        return Outcome()
    client, tags = MlflowClient(uri), run.data.tags
    steps = Counter(metric.step for metric in client.get_metric_history(run.info.run_id, "loss"))
    return Outcome(
        run.info.status,
        tags.get("trackside.end.reason", ""),
        len(steps),
        sum(steps.values()) - len(steps),
        counts_in(tags).get("shipped"),
        [artifact.path for artifact in client.list_artifacts(run.info.run_id)],
        tags,
    )


def _recorded_run(records: Path) -> Outcome:
    runs = recorder.read_runs(records)
    assert len(runs) <= 1, f"{len(runs)} runs were made"
    if not runs:
        return Outcome()
    (run,) = runs
    steps = run.steps("loss")
    artifacts = [] if run.traceback is None else ["traceback.txt"]
    doubles = sum(steps.values()) - len(steps)
    return Outcome(run.status, run.reason, len(steps), doubles, run.counts.get("shipped"), artifacts)


def check(case: Case, seen: Outcome) -> list[str]:
    """Everything about ``seen`` that is not as the case wants it."""
    wanted = seen.confirmed if case.points is None else case.points
    points_right = seen.points >= wanted if case.points is None else seen.points == wanted
    verdicts = {
        f"status {seen.status}, not {case.status}": seen.status == case.status,
        f"exit code {seen.exit_code}, not {case.exit_code}": case.exit_code in {None, seen.exit_code},
        f"{seen.points} points, not {wanted}": points_right,
        f"{seen.doubles} doubles": seen.doubles == 0,
        f"reason {seen.reason!r} lacks {case.reason!r}": case.reason in seen.reason,
        f"stderr lacks {case.stderr!r}": case.stderr in seen.stderr,
        f"artifacts {seen.artifacts} lack {case.artifact!r}": case.artifact in ["", *seen.artifacts],
        f"left behind: {seen.leftovers}": not (case.tidy and seen.leftovers),
        f"{seen.shipped} points shipped": case.attempts > 1 or seen.shipped == 2 * seen.points,
        f"a stale heartbeat in {sorted(seen.tags)}": not (case.tidy and HEARTBEAT_TAG in seen.tags),
    }
    return [text for text, right in verdicts.items() if not right]
