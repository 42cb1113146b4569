"""What the destinations' tests share: a context, records, and processes that are killed."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from trackside.destinations.context import DestinationContext
from trackside.journal.format import ArtifactRecord, ConfigRecord, HeldFile, MetricsRecord
from trackside.journal.meta import Meta, Target
from trackside.journal.owner import Owner
from trackside.protocols import Destination

if TYPE_CHECKING:
    from collections.abc import Iterator

AnyDestination = TypeVar("AnyDestination", bound=Destination)

START_MS = 1_700_000_000_000
COUNTS = {"emitted": 0, "shipped": 0, "dropped": 0, "rejected": 0, "damaged": 0}


def context(
    directory: Path,
    name: str = "under-test",
    *,
    journal_id: str = "0123456789abcdef0123456789abcdef",
    run_name: str | None = "a run",
    rank: int = 0,
) -> DestinationContext:
    """A destination's context whose training was started in ``directory``."""
    journal = directory / ".trackside" / f"journal-{journal_id[:6]}"
    journal.mkdir(parents=True, exist_ok=True)
    meta = Meta(
        journal_id=journal_id,
        owner=Owner(host="test-host", pid=1, started=0.0, boot_id="boot"),
        target=Target("sqlite:///mlflow.db", experiment_name="digits", run_name=run_name),
        rank=rank,
        working_directory=str(directory),
        started_ms=START_MS,
    )
    return DestinationContext(name, meta, journal)


def metrics(
    step: int, *, epoch: float | None = None, prefix: str | None = None, **values: float
) -> MetricsRecord:
    """A record of one step, ten milliseconds behind that of the step before."""
    return MetricsRecord(step + 1, START_MS + 10 * step, step, epoch, prefix, values or {"loss": float(step)})


def records(*wanted: int) -> list[MetricsRecord]:
    """A record for each step."""
    return [metrics(step) for step in wanted]


def begun(made: AnyDestination, state: dict[str, Any] | None = None) -> AnyDestination:
    """The destination as the shipper has it after a start, or a restart with ``state``."""
    if state is not None:
        made.restore(json.loads(json.dumps(state)))
    made.open()
    return made


def config(document: dict[str, Any]) -> ConfigRecord:
    """A configuration as the sink would have journaled it."""
    return ConfigRecord(1, START_MS, {key: str(value) for key, value in document.items()}, document)


def artifact(
    kind: str,
    place: str,
    content: Path | None,
    *,
    step: int | None = None,
    form: str = "file",
    details: dict[str, Any] | None = None,
) -> ArtifactRecord:
    """A record of what is held at ``content``, as the sink would have journaled it."""
    held = None
    if content is not None:
        held = HeldFile("0a1b", "copy", f"/home/user/{content.name}", 1234)
    return ArtifactRecord(1, START_MS, kind, place, step, held, form, details=details or {})


def run_and_kill(script: str, *arguments: object, lines: int, then: float = 0.0) -> list[str]:
    """Start ``script``, SIGKILL it ``then`` seconds after its first ``lines`` lines. Return what it said."""
    process = subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent.parent,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    with process, process.stdout:
        seen = [process.stdout.readline().strip() for _ in range(lines)]
        time.sleep(then)
        process.send_signal(signal.SIGKILL)
        seen += [line.strip() for line in process.stdout if line.endswith("\n")]
    assert process.returncode == -signal.SIGKILL
    return seen


@contextlib.contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file of this process may grow above ``size``, as if its disk were full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
