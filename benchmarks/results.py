"""Results on disk: a JSON file a benchmark, which the report is made from."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.machine import describe_machine

if TYPE_CHECKING:
    from benchmarks.worker import Figures

RESULTS = Path(__file__).parents[1] / "docs" / "benchmarks" / "results"


@dataclass
class Results:
    """What a benchmark found: for each thing measured, under its key, the figures of each round."""

    benchmark: str
    rounds: dict[str, list[Figures]] = field(default_factory=dict)
    machine: dict[str, str] = field(default_factory=describe_machine)
    command: str = ""
    begun: str = field(default_factory=lambda: datetime.now(tz=timezone.utc).isoformat(timespec="seconds"))

    def __post_init__(self) -> None:
        """Note how it was started."""
        module = f"benchmarks.{self.benchmark}"
        self.command = self.command or shlex.join(["python", "-m", module, *_without_path(sys.argv[1:])])

    def add(self, key: str, figures: Figures) -> None:
        """Keep the figures of one more round."""
        self.rounds.setdefault(key, []).append(figures)

    def of(self, key: str) -> list[Figures]:
        """The figures of all rounds; none where it was not measured."""
        return self.rounds.get(key, [])

    def save(self, path: Path | None = None) -> None:
        """Write them; after each round, so that an interrupted benchmark has something to show."""
        path = path or RESULTS / f"{self.benchmark}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")


def load(benchmark: str, directory: Path = RESULTS) -> Results | None:
    """The results of a benchmark, where it has been run."""
    path = directory / f"{benchmark}.json"
    return Results(**json.loads(path.read_text())) if path.exists() else None


def _without_path(arguments: list[str]) -> list[str]:
    """What was measured does not depend on where it is kept."""
    if "--json" not in arguments:
        return arguments
    at = arguments.index("--json")
    return arguments[:at] + arguments[at + 2 :]
