"""A destination that keeps a run in files, and stands in for MLflow where a test is not about MLflow.

Its shipper starts in a fraction of a second, because it does not import MLflow. Metrics go to JSON lines, by
the code that users get with ``jsonl``. How the run ended goes to a file beside them.

In a training script, call :func:`record_instead_of_mlflow` before ``start()``. In the test, read the runs
with :func:`read_runs`.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackside.destinations.jsonl import JSONLinesDestination
from trackside.journal.files import write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trackside.destinations.context import DestinationContext
    from trackside.events import RunEnd

PLACE = "TESTS_RECORD"
"""The variable that names the folder with the runs."""

HOLD = "hold"
"""While a file of that name is in the folder, nothing is delivered."""

IN_A_SCRIPT = "import tests.support.recorder\ntests.support.recorder.record_instead_of_mlflow()\n"

KIND = f"{__name__}:Recorder"
"""For ``trackside sync --allow-import``."""


class Recorder(JSONLinesDestination):
    """``path``: the folder. A run's files are named after its journal."""

    def __init__(self, context: DestinationContext, path: str) -> None:
        super().__init__(context, path=os.path.join(path, "{journal}.jsonl"))
        self._end_file = Path(path) / f"{context.journal.name}.end"
        self._hold = Path(path) / HOLD

    def open(self) -> None:
        """Wait until nothing holds up the deliveries, then begin the file."""
        while self._hold.exists():
            time.sleep(0.01)
        super().open()

    def write_end(self, end: RunEnd) -> None:
        """Keep how the run ended, so far."""
        super().write_end(end)
        told = {
            "status": end.status,
            "reason": end.reason,
            "counts": dict(end.counts),
            "traceback": end.traceback,
        }
        write_atomically(self._end_file, json.dumps(told).encode())


def record_instead_of_mlflow() -> None:
    """Have every ``start()`` of this process deliver to :class:`Recorder` alone.

    ``start()`` itself always delivers rank 0 to MLflow. The plan it makes also allows a run without.
    """
    start = importlib.import_module("trackside.session.start")
    plan = start.plan_destinations
    recorder = {"type": KIND, "name": "recorder", "path": os.environ[PLACE]}

    @functools.wraps(plan)
    def plan_recorder(given: Any, rank: int, also: Any = ()) -> Any:
        planned = plan([*given, recorder], rank, also)
        return planned._replace(mlflow=False)

    start.plan_destinations = plan_recorder  # type: ignore[attr-defined]


def environment(folder: Path) -> dict[str, str]:
    """What a script needs to import this module and to record in ``folder``."""
    root = str(Path(__file__).parents[2])
    return {PLACE: str(folder), "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}


@dataclass(frozen=True)
class RecordedRun:
    """A run as it was recorded. RUNNING while nothing said how it ended."""

    journal: str
    status: str = "RUNNING"
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    traceback: str | None = None
    points: tuple[dict[str, Any], ...] = ()
    artifacts: tuple[dict[str, Any], ...] = ()
    """What was logged as files: the lines that have ``artifact``."""

    def steps(self, key: str) -> Counter[int]:
        """How often each step is there, of ``key``."""
        return Counter(point["step"] for point in self.points if key in point)


def is_artifact(line: Mapping[str, Any]) -> bool:
    """Whether a line of JSON says what was logged as a file."""
    return isinstance(line.get("artifact"), dict)


def only_run(folder: Path) -> RecordedRun:
    """The only run recorded in ``folder``."""
    (run,) = read_runs(folder)
    return run


def read_runs(folder: Path) -> list[RecordedRun]:
    """The runs recorded in ``folder``, the oldest first."""
    runs = []
    for lines in sorted(folder.glob("*.jsonl")):
        end = lines.with_suffix(".end")
        found = [json.loads(line) for line in lines.read_text().splitlines()]
        points = tuple(line for line in found if not is_artifact(line))
        artifacts = tuple(filter(is_artifact, found))
        told = json.loads(end.read_text() if end.exists() else "{}")
        runs.append(RecordedRun(lines.stem, points=points, artifacts=artifacts, **told))
    return runs
