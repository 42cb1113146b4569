"""The suite for destinations: what it accepts, and what it finds."""

from __future__ import annotations

import subprocess
import sys
from ast import literal_eval
from typing import TYPE_CHECKING, Any

import pytest

from trackside.protocols import Destination
from trackside.testing.destinations import DestinationContract, new_context

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trackside.destinations.context import DestinationContext
    from trackside.journal.format import MetricsRecord
    from trackside.testing.destinations import Point


class Lines(Destination):
    """The destination of the documentation: ten lines, and at least once."""

    def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
        with open(self.context.path("lines.txt"), "a", encoding="utf-8") as file:
            for record in batch:
                print(record.step, record.named_values(), file=file)


class TestLines(DestinationContract):
    """It passes for what it is."""

    delivers_once = False

    def destination(self, context: DestinationContext) -> Destination:
        return Lines(context)

    def points(self, context: DestinationContext) -> Iterator[Point]:
        path = context.path("lines.txt")
        for line in path.read_text("utf-8").splitlines() if path.exists() else ():
            step, _, values = line.partition(" ")
            named = literal_eval(values.replace("nan,", "'nan',").replace("inf,", "1e999,"))
            yield from ((name, int(step), float(value)) for name, value in named.items())


class Once(TestLines):
    __test__ = False
    delivers_once = True


class Forgets(Once):
    """Its destination loses the last record of a batch."""

    def destination(self, context: DestinationContext) -> Destination:
        class Forgetful(Lines):
            def write_metrics(self, batch: Sequence[MetricsRecord]) -> None:
                super().write_metrics(batch[:-1])

        return Forgetful(context)


class Changes(Once):
    """Its destination has a state that JSON can't keep as it is."""

    def destination(self, context: DestinationContext) -> Destination:
        class WithTuple(Lines):
            def state(self) -> dict[str, Any]:
                return {"place": (1, 2)}

        return WithTuple(context)


@pytest.mark.parametrize(
    ("suite", "test", "found"),
    [
        (Once, "test_a_batch_that_arrives_twice", "too often"),
        (Once, "test_the_first_batch_arrives_twice", "too often"),
        (Forgets, "test_every_point_is_read_back", "missing"),
        (Changes, "test_the_state_is_json", "would not get"),
    ],
)
def test_a_fault_is_found(tmp_path: Path, suite: type[Once], test: str, found: str) -> None:
    """And said in a sentence."""
    with pytest.raises(AssertionError, match=found):
        getattr(suite(), test)(new_context(tmp_path))


def test_the_capturing_half_needs_no_pytest() -> None:
    """A program may import trackside.testing where pytest is not installed."""
    script = "import sys; sys.modules['pytest'] = None; import trackside.testing"
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
