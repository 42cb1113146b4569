"""Plays one case: a real process that trains, is ended, and whose run is then read back from MLflow."""

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

from trackside.destinations.mlflow.tags import HEARTBEAT_TAG, counts_in

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlflow.entities import Run

SETTLE_TIMEOUT = 30.0
"""Seconds after the end within which the final status must be there."""

TIDY_TIMEOUT = 5.0
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
    ``attempts`` is how many the run has; the counts on its page are checked where there is one.
    ``tidy``: the journal is gone afterwards, and not when the shipper was killed with the process.
    ``points`` is how many samples must be in MLflow; None: all that were confirmed before the end, or more.
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


@dataclass
class Outcome:
    """What was seen."""

    status: str
    exit_code: int
    points: int
    confirmed: int
    doubles: int
    seconds: float
    tags: dict[str, str]
    artifacts: list[str]
    stderr: str
    leftovers: list[str]
    shipper_log: str


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


def play(case: Case, directory: Path) -> Outcome:
    """Run the case in ``directory`` and report what became of it."""
    uri = new_database(directory)
    script = directory / "train.py"
    script.write_text(PREAMBLE + textwrap.dedent(case.script))
    confirmed = directory / "confirmed"
    environment = {
        **os.environ,
        "MLFLOW_TRACKING_URI": uri,
        "TRACKSIDE_DIR": str(directory / "journals"),
        "CASE_CONFIRMED": str(confirmed),
        "PYTHONUNBUFFERED": "1",
        "MLFLOW_DISABLE_TELEMETRY": "true",
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
    run = wait_until_settled(uri, directory / "journals", SETTLE_TIMEOUT if case.tidy else 0.5)
    seconds = time.monotonic() - ended
    count = int(confirmed.read_text()) if confirmed.exists() and confirmed.stat().st_size else 0
    return _outcome(run, uri, directory, process.returncode, errors.read_text(), seconds, count)


def wait_for_ready(process: subprocess.Popen[str], errors: Path) -> None:
    """Read the process's output up to the line ``ready``."""
    assert process.stdout is not None
    for line in process.stdout:
        if line.strip() == "ready":
            return
    raise AssertionError(f"the script ended before it was ready: {errors.read_text()}")


def wait_until_settled(uri: str, journals: Path, timeout: float = SETTLE_TIMEOUT) -> Run | None:
    """The only run of the store, once every journal is gone or ``timeout`` seconds have passed."""
    deadline = time.monotonic() + timeout
    while any(journals.glob("*/meta.json")) and time.monotonic() < deadline:
        time.sleep(0.05)
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


def _outcome(  # noqa: PLR0917 - everything seen, once
    run: Run | None, uri: str, directory: Path, exit_code: int, stderr: str, seconds: float, confirmed: int
) -> Outcome:
    journals = directory / "journals"
    leftovers = wait_until_tidy(journals)
    logs = "\n".join(p.read_text() for p in journals.glob("*/shipper.log"))
    if run is None:
        return Outcome("NO RUN", exit_code, 0, confirmed, 0, seconds, {}, [], stderr, leftovers, logs)
    client = MlflowClient(uri)
    steps = Counter(m.step for m in client.get_metric_history(run.info.run_id, "loss"))
    artifacts = [a.path for a in client.list_artifacts(run.info.run_id)]
    doubles = sum(steps.values()) - len(steps)
    return Outcome(
        run.info.status,
        exit_code,
        len(steps),
        confirmed,
        doubles,
        seconds,
        run.data.tags,
        artifacts,
        stderr,
        leftovers,
        logs,
    )


def check(case: Case, seen: Outcome) -> list[str]:
    """Everything about ``seen`` that is not as the case wants it."""
    wanted = seen.confirmed if case.points is None else case.points
    points_right = seen.points >= wanted if case.points is None else seen.points == wanted
    tag = seen.tags.get("trackside.end.reason", "")
    verdicts = {
        f"status {seen.status}, not {case.status}": seen.status == case.status,
        f"exit code {seen.exit_code}, not {case.exit_code}": case.exit_code in {None, seen.exit_code},
        f"{seen.points} points, not {wanted}": points_right,
        f"{seen.doubles} doubles": seen.doubles == 0,
        f"reason {tag!r} lacks {case.reason!r}": case.reason in tag,
        f"stderr lacks {case.stderr!r}": case.stderr in seen.stderr,
        f"artifacts {seen.artifacts} lack {case.artifact!r}": case.artifact in ["", *seen.artifacts],
        f"left behind: {seen.leftovers}": not (case.tidy and seen.leftovers),
        f"counts {counts_in(seen.tags)}": case.attempts > 1
        or counts_in(seen.tags).get("shipped") == 2 * seen.points,
        f"a stale heartbeat in {sorted(seen.tags)}": not (case.tidy and HEARTBEAT_TAG in seen.tags),
    }
    return [text for text, right in verdicts.items() if not right]
