"""A test suite for a destination of your own, for pytest (the extra ``testing``).

Derive a class, say how to create the destination, and how to read back what it has written::

    from trackside.testing.destinations import DestinationContract

    class TestLines(DestinationContract):
        def destination(self, context):
            return Lines(context)

        def points(self, context):
            for line in context.path("lines.txt").read_text().splitlines():
                step, _, values = line.partition(" ")
                for name, value in literal_eval(values).items():
                    yield name, int(step), value

The suite drives the destination as the shipper does, and plays crashes between a delivery and its
acknowledgement.
"""

from __future__ import annotations

import json
import logging
import math
from base64 import b64decode
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from trackside.destinations.context import DestinationContext
from trackside.errors import RejectedError
from trackside.events import MetricLink, RunEnd, now_ms
from trackside.journal.format import (
    ArtifactRecord,
    ConfigRecord,
    HeldFile,
    LinkedMetricsRecord,
    MetricsRecord,
    ParamsRecord,
    TagsRecord,
)
from trackside.journal.meta import Meta, Target
from trackside.journal.owner import this_process

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from trackside.protocols import Destination

Point = tuple[str, int, float]
"""Name, step, value."""

logger = logging.getLogger("trackside.testing")


class DestinationContract:
    """What every destination keeps to. Override :meth:`destination` and :meth:`points`."""

    delivers_once = True
    """Whether a batch that arrives twice leaves each of its points once. False: at least once."""

    def destination(self, context: DestinationContext) -> Destination:
        """Create the destination, not yet open. A restart calls this again, with the same journal."""
        raise NotImplementedError

    def points(self, context: DestinationContext) -> Iterable[Point]:
        """Read back every point. Called after the final end, when the destination is closed."""
        raise NotImplementedError

    def stored(self, value: float) -> float:
        """What becomes of ``value``: override it if yours has, say, 32 bits."""
        return value

    def crash(self, destination: Destination) -> None:
        """Leave ``destination`` as SIGKILL would. By default it is left alone, open as it is."""

    @pytest.fixture
    def context(self, tmp_path: Path) -> DestinationContext:
        """A run that was started in ``tmp_path``."""
        return new_context(tmp_path)

    def test_every_point_is_read_back(self, context: DestinationContext) -> None:
        """Batches of one sample and of several, with a prefix and an epoch, as the full names say."""
        records = [*samples(range(3)), sample(3, {"loss": 0.5, "acc": 1.0}, epoch=2.0, prefix="val")]
        made = self._opened(context)
        made.write_metrics(records[:1])
        made.idle()
        made.write_metrics(records[1:])
        self._end(made)
        self._check(context, records)

    def test_a_batch_that_arrives_twice(self, context: DestinationContext) -> None:
        """The shipper died before it was acknowledged. It comes again, cut at other places."""
        made = self._opened(context)
        made.write_config(config({"lr": 0.1}))
        made.write_metrics(samples(range(2)))
        kept = made.state()
        made.write_metrics(samples(range(2, 5)))
        self.crash(made)
        again = self._opened(context, kept, restarted=True)
        again.write_metrics(samples([2]))
        again.write_metrics(samples(range(3, 6)))
        self._end(again)
        self._check(context, samples(range(6)))

    def test_the_first_batch_arrives_twice(self, context: DestinationContext) -> None:
        """The shipper died before it had acknowledged anything. The state is that after ``open``."""
        made = self._opened(context)
        kept = made.state()
        made.write_metrics(samples(range(3)))
        self.crash(made)
        again = self._opened(context, kept, restarted=True)
        again.write_metrics(samples(range(4)))
        self._end(again)
        self._check(context, samples(range(4)))

    def test_a_restart_keeps_what_was_acknowledged(self, context: DestinationContext) -> None:
        """It does not come again. Neither a stop nor a crash loses it."""
        made = self._opened(context)
        made.write_metrics(samples(range(2)))
        kept = made.state()
        made.close()
        again = self._opened(context, kept, restarted=True)
        again.write_metrics(samples(range(2, 4)))
        kept = again.state()
        self.crash(again)
        last = self._opened(context, kept, restarted=True)
        self._end(last)
        self._check(context, samples(range(4)))

    def test_the_state_is_json(self, context: DestinationContext) -> None:
        """It comes back as it was, and asking for it changes nothing."""
        made = self._opened(context)
        made.write_metrics(samples(range(2)))
        kept = made.state()
        assert json.loads(json.dumps(kept)) == kept, "restore() would not get what state() returned"
        assert made.state() == kept, "a second state() differs, with nothing written in between"
        self._end(made)

    def test_odd_values(self, context: DestinationContext) -> None:
        """NaN, infinities, and the ends of a float's range are values like any other."""
        odd = {"nan": math.nan, "inf": math.inf, "minus": -math.inf, "large": 1e308, "small": 5e-324}
        made = self._opened(context)
        made.write_metrics([sample(1, odd)])
        self._end(made)
        self._check(context, [sample(1, odd)])

    def test_odd_names(self, context: DestinationContext) -> None:
        """Names may have levels, spaces and letters of any alphabet."""
        odd = {"a/b/c": 1.0, "größe": 2.0, "損失": 3.0, "with space": 4.0, "dotted.name-1_x": 5.0}
        made = self._opened(context)
        made.write_metrics([sample(1, odd)])
        self._end(made)
        self._check(context, [sample(1, odd)])

    def test_large_and_unordered_steps(self, context: DestinationContext) -> None:
        """Steps have 63 bits and a sign, and may come in any order, or twice with two names."""
        records = [*samples([2**53 + 1, 5, -3, 0]), sample(5, {"late": 1.0})]
        made = self._opened(context)
        made.write_metrics(records)
        self._end(made)
        self._check(context, records)

    def test_a_step_beyond_64_bits(self, context: DestinationContext) -> None:
        """It is written, or rejected. Either way the next batch is delivered."""
        made = self._opened(context)
        try:
            made.write_metrics(samples([2**70]))
        except RejectedError:
            made.write_metrics(samples([1]))
            self._end(made)
            self._check(context, samples([1]))
        else:
            self._end(made)

    def test_configurations(self, context: DestinationContext) -> None:
        """They come before, between and after metrics, nested, with odd values, and more than once."""
        made = self._opened(context)
        made.write_config(config({"lr": 0.1, "model": {"depth": 3, "größe": None}}))
        made.write_metrics(samples(range(2)))
        made.write_config(config({"layers": [1, "two", {"three": 3.0}], "lr": 0.2, "empty": {}}))
        made.write_config(config({"limit": math.inf, "unknown": math.nan}))
        self._end(made)
        self._check(context, samples(range(2)))

    def test_params_and_tags(self, context: DestinationContext) -> None:
        """They come one by one or many at once, between metrics, and more than once."""
        made = self._opened(context)
        made.write_params(ParamsRecord(1, 1_700_000_000_000, {"lr": "0.1", "größe": "", "name": "x" * 9000}))
        made.write_tags(TagsRecord(1, 1_700_000_000_000, {"stage": "draft"}))
        made.write_metrics(samples(range(2)))
        for _ in range(2):
            made.write_params(ParamsRecord(1, 1_700_000_000_000, {"depth": "3"}))
            made.write_tags(TagsRecord(1, 1_700_000_000_000, {"stage": "final", "損失": "1"}))
        made.write_metrics([linked(2)])
        self._end(made)
        self._check(context, samples(range(3)))

    def test_artifacts(self, context: DestinationContext, tmp_path: Path) -> None:
        """Files, texts, tables and others come between metrics. They are delivered, ignored or rejected."""
        made = self._opened(context)
        made.write_metrics(samples([0]))
        for record, content in artifacts(tmp_path / "held"):
            self._write_artifact(made, record, content)
        made.write_metrics(samples([1]))
        self._end(made)
        self._check(context, samples(range(2)))

    def test_an_artifact_that_arrives_twice(self, context: DestinationContext, tmp_path: Path) -> None:
        """In one shipper, as a retry, and in the next one. No point is lost or there twice."""
        made = self._opened(context)
        made.write_metrics(samples([0]))
        kept = made.state()
        for record, content in artifacts(tmp_path / "held"):
            self._write_artifact(made, record, content)
            self._write_artifact(made, record, content)
        self.crash(made)
        again = self._opened(context, kept, restarted=True)
        for record, content in artifacts(tmp_path / "held"):
            self._write_artifact(again, record, content)
        again.write_metrics(samples([1]))
        self._end(again)
        self._check(context, samples(range(2)))

    def test_artifacts_of_another_version(self, context: DestinationContext, tmp_path: Path) -> None:
        """A kind, a form and details that this version does not know are ignored or rejected."""
        made = self._opened(context)
        unknown = artifact("hologram", "a/b", "of tomorrow")
        for kind in ("hologram", "image", "text", "table", "histogram", "file"):
            for content in (None, held(tmp_path / "held", b"content")):
                self._write_artifact(made, msgspec.structs.replace(unknown, kind=kind), content)
        made.write_metrics(samples([1]))
        self._end(made)
        self._check(context, samples([1]))

    @pytest.mark.parametrize("status", ["FINISHED", "FAILED", "KILLED"])
    def test_the_end(self, context: DestinationContext, status: Any) -> None:
        """A status may be told before it is final, and a shipper that died then tells it again."""
        made = self._opened(context)
        made.write_metrics(samples(range(2)))
        made.write_end(run_end(status, final=False))
        made.write_metrics(samples([2]))
        kept = made.state()
        made.write_end(run_end(status))
        self.crash(made)
        again = self._opened(context, kept, restarted=True)
        self._end(again, status)
        self._check(context, samples(range(3)))

    def test_a_run_without_points(self, context: DestinationContext) -> None:
        """It ends like any other."""
        self._end(self._opened(context))
        self._check(context, [])

    def test_everything_may_be_called_at_any_time(self, context: DestinationContext) -> None:
        """``idle`` and ``sync`` with nothing to do, ``close`` before ``open``, and twice."""
        unopened = self.destination(context)
        unopened.close()
        made = self._opened(context)
        made.idle()
        made.sync()
        made.write_metrics(samples(range(2)))
        made.sync()
        made.prove()
        made.idle()
        self._end(made)
        made.close()
        self._check(context, samples(range(2)))

    def _opened(
        self, context: DestinationContext, kept: dict[str, Any] | None = None, *, restarted: bool = False
    ) -> Destination:
        """The destination as a shipper has it, after a restart with the state ``kept``."""
        made = self.destination(replace(context, restarted=restarted))
        if kept is not None:
            made.restore(json.loads(json.dumps(kept)))
        made.open()
        return made

    def _write_artifact(self, destination: Destination, record: ArtifactRecord, content: Path | None) -> None:
        """Deliver an artifact as the shipper does, which takes a rejection for an answer."""
        with suppress(RejectedError):
            destination.write_artifact(record, content)

    def _end(self, destination: Destination, status: Any = "FINISHED") -> None:
        destination.write_end(run_end(status))
        destination.finish_uploads()
        destination.close()

    def _check(self, context: DestinationContext, records: Sequence[MetricsRecord]) -> None:
        """Compare what is read back with ``records``."""
        wanted = Counter(
            _key(name, record.step, self.stored(value))
            for record in records
            for name, value in record.named_values().items()
        )
        found = Counter(_key(name, step, value) for name, step, value in self.points(context))
        assert not wanted - found, f"these points are missing: {dict(wanted - found)}, of {dict(found)}"
        extra = found - wanted if self.delivers_once else Counter(found.keys() - wanted.keys())
        assert not extra, f"these points are there too often: {dict(extra)}"


def new_context(directory: Path, name: str = "under-test") -> DestinationContext:
    """The context of a destination whose run was started in ``directory``, by this process."""
    journal = directory / ".trackside" / "journal"
    journal.mkdir(parents=True, exist_ok=True)
    meta = Meta(
        journal_id="0123456789abcdef0123456789abcdef",
        owner=this_process(),
        target=Target("sqlite:///mlflow.db", experiment_name="contract", run_name="a run"),
        rank=0,
        working_directory=str(directory),
        started_ms=now_ms(),
    )
    return DestinationContext(name, meta, journal, notice=logger.info)


def samples(steps: Iterable[int]) -> list[MetricsRecord]:
    """A record for each step, with the metric ``loss``."""
    return [sample(step, {"loss": step % 1000 / 4}) for step in steps]


def sample(
    step: int, values: dict[str, float], *, epoch: float | None = None, prefix: str | None = None
) -> MetricsRecord:
    """A record as the journal has it. The same step and values always make the same record."""
    return MetricsRecord(1, 1_700_000_000_000 + step % 1000, step, epoch, prefix, dict(values))


def linked(step: int) -> LinkedMetricsRecord:
    """The record of :func:`samples` for ``step``, of a dataset."""
    plain = sample(step, {"loss": step % 1000 / 4})
    return LinkedMetricsRecord(**msgspec.structs.asdict(plain), link=MetricLink(None, "digits", "0a1b"))


def artifacts(folder: Path) -> list[tuple[ArtifactRecord, Path | None]]:
    """A record of some kinds, and what is held for each, in ``folder``. The same each time."""
    text = held(folder / "text", "héllo\n".encode())
    held(folder / "folder" / "inner" / "a.txt", b"a")
    table = {"rows": [["step", "guess"], [[1, "seven"], [2, None]]]}
    numbers = {"min": -1.0, "max": 2.0, "sum": 4.5, "sum_squares": 9.25, "num": 3}
    histogram = {"edges": [-1.0, 0.5, 2.0], "counts": [1, 2], **numbers}
    return [
        (artifact("file", "data/text", "file"), text),
        (artifact("folder", "data", "file"), folder / "folder"),
        (artifact("text", "größe/a.txt", "file"), text),
        (artifact("image", "val/samples", "file", step=3), held(folder / "a.png", _PIXEL)),
        (artifact("image", "a.png", "file"), folder / "a.png"),
        (artifact("table", "a.json", "rows", details=table), None),
        (artifact("histogram", "weights", "histogram", step=3, details=histogram), None),
        (artifact("dataset", "digits", ""), None),
        (artifact("checkpoint", "last", "file", step=3), text),
    ]


def artifact(
    kind: str, place: str, form: str, *, step: int | None = None, details: dict[str, Any] | None = None
) -> ArtifactRecord:
    """A record as the journal has it."""
    file = HeldFile("0a1b", "copy", "", 1)
    return ArtifactRecord(1, 1_700_000_000_000, kind, place, step, file, form, "now", details or {})


def held(path: Path, content: bytes) -> Path:
    """Write ``content`` to ``path``, and return that."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


_PIXEL = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC"
)
"""A PNG file."""


def config(document: dict[str, Any]) -> ConfigRecord:
    """A configuration as the journal has it."""
    params = {key: str(value) for key, value in document.items()}
    return ConfigRecord(1, 1_700_000_000_000, params, document)


def run_end(status: Any = "FINISHED", *, final: bool = True) -> RunEnd:
    """An end as the shipper tells it."""
    counts = dict.fromkeys(("emitted", "shipped", "merged", "dropped", "rejected", "damaged"), 0)
    return RunEnd(status=status, reason="the suite ends", final=final, ended_ms=now_ms(), counts=counts)


def _key(name: str, step: int, value: float) -> tuple[str, int, str]:
    return name, int(step), repr(float(value))
