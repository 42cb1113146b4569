"""What the journal's tests share: small journals, any record at all, reading to the end."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import strategies as st

from tests.support.program import run_python
from trackside.events import MetricLink
from trackside.journal import segment, supply
from trackside.journal.directory import JournalDirectory, create_directory
from trackside.journal.format import (
    ConfigRecord,
    LifecycleRecord,
    LinkedMetricsRecord,
    MetricsRecord,
    ParamsRecord,
    Record,
    TagsRecord,
)
from trackside.journal.reader import JournalReader, Position

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from typing_extensions import Self

_OURS = f"{os.sep}trackside{os.sep}"
SCRIPTS = Path(__file__).parent / "scripts"

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
int64 = st.integers(-(2**63), 2**63 - 1)
plain = st.recursive(
    st.none() | st.booleans() | int64 | st.floats(allow_nan=False) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=6,
)
_metrics: dict[str, st.SearchStrategy[Any]] = {
    "seq": st.just(0),
    "timestamp_ms": int64,
    "step": int64,
    "epoch": st.none() | st.floats(),
    "prefix": st.none() | text,
    "metrics": st.dictionaries(text, st.floats(), max_size=6),
}
metrics_records = st.builds(MetricsRecord, **_metrics)
linked_records = st.builds(
    LinkedMetricsRecord,
    **_metrics,
    link=st.builds(MetricLink, st.none() | text, st.none() | text, st.none() | text),
)
texts_records = st.builds(
    lambda kind, timestamp_ms, texts: kind(0, timestamp_ms, texts),
    st.sampled_from([ParamsRecord, TagsRecord]),
    int64,
    st.dictionaries(text, text, max_size=3),
)
config_records = st.builds(
    ConfigRecord,
    seq=st.just(0),
    timestamp_ms=int64,
    params=st.dictionaries(text, text, max_size=3),
    document=st.dictionaries(text, plain, max_size=3),
)
lifecycle_records = st.builds(
    LifecycleRecord,
    seq=st.just(0),
    timestamp_ms=int64,
    kind=text,
    status=st.none() | text,
    message=st.none() | text,
    signal=st.none() | st.integers(0, 64),
    exit_code=st.none() | st.integers(-255, 255),
    error_type=st.none() | text,
    traceback=st.none() | text,
)
records: st.SearchStrategy[Record] = (
    metrics_records | linked_records | config_records | texts_records | lifecycle_records
)
"""Any record: every type, any unicode, NaN and infinities, nothing at all."""


def sample(step: int, points: int = 1) -> MetricsRecord:
    """A record of ``points`` metrics, about 14 bytes each."""
    return MetricsRecord(0, 1, step, None, None, {f"m{n}": n / 3 for n in range(points)})


def new_journal(root: Path) -> JournalDirectory:
    """A new, empty journal directory."""
    return create_directory(root, "test")


def read_all(
    journal: JournalDirectory, *, dead: bool = True, position: Position | None = None
) -> tuple[list[Record], JournalReader]:
    """Everything that can be read, and the reader that did it (closed; its counters are of use)."""
    reader = JournalReader(journal, position)
    reader.writer_dead = dead
    found: list[Record] = []
    while entries := reader.read():
        found += [entry.record for entry in entries]
    assert reader.read() == []
    reader.close()
    return found, reader


def steps(found: list[Record]) -> list[int]:
    """The steps of the samples among ``found``."""
    return [record.step for record in found if isinstance(record, MetricsRecord)]


def same(one: Record, other: Record) -> bool:
    """Whether two records are alike, NaN being like NaN."""
    return repr(one) == repr(other)


def lost(reader: JournalReader) -> int:
    """How many records the reader says were lost before the last one it read."""
    return reader.damaged + reader.missing


class Interrupt:
    """Calls ``handler`` at the ``at``-th place in trackside at which an interrupt could come.

    CPython lets signal handlers (and what they raise) in where a call returns and where a Python
    function begins. A profile function is called at just these places.
    """

    def __init__(self, at: int, handler: Callable[[], Any]) -> None:
        self._left = at
        self._handler = handler
        self.came = False

    def __enter__(self) -> Self:
        sys.setprofile(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _look(self, frame: Any, event: str, _argument: object) -> None:
        if event in {"call", "c_return"} and _OURS in frame.f_code.co_filename:
            self._left -= 1
            if self._left == 0:
                self.came = True
                sys.setprofile(None)
                sys.call_tracing(self._handler, ())  # so that it can be interrupted itself


@contextlib.contextmanager
def small_segments(first: int = 1024, *, reserve: int = 128) -> Iterator[None]:
    """Have segments of ``first`` bytes, then twice that, so that a few records fill them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(supply, "FIRST_SIZE", first)
        patch.setattr(supply, "LARGEST_SIZE", 2 * first)
        patch.setattr(supply, "SMALLEST_SIZE", min(256, first))
        patch.setattr(segment, "LIFECYCLE_RESERVE", reserve)
        yield


def run_script(name: str, *arguments: object, timeout: float = 60) -> Any:
    """Run a script of ``scripts/`` in a process of its own; what it printed, read as JSON."""
    process = run_python(SCRIPTS / name, *map(str, arguments), timeout=timeout)
    assert process.returncode == 0, f"exit code {process.returncode}: {process.stderr}"
    return json.loads(process.stdout)


def kill_at_random(name: str, journal: JournalDirectory, *arguments: Path) -> int:
    """Kill a script of ``scripts/`` that writes to ``journal``, at a random moment once it has begun.

    Returns how many of its calls had returned, which it counts in a mapped file.
    """
    counter = journal.path.with_name("acknowledged")
    command = [sys.executable, *map(str, (SCRIPTS / name, journal.path, counter, *arguments))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        try:
            assert child.stdout.readline() == b"begun\n"
            time.sleep(random.uniform(0, 0.05))
        finally:
            child.kill()
    assert child.returncode == -signal.SIGKILL
    return int.from_bytes(counter.read_bytes()[:8], "little")
