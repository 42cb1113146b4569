"""The sink on the way to MLflow: what it journals of what it is given, and what it counts as dropped."""

from __future__ import annotations

import logging
import math
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.journal.tools import small_segments
from tests.sinks.kept import Kept
from trackside.event_bus.bus import FAULTS_BEFORE_DETACH
from trackside.events import ConfigEvent, LifecycleEvent, MetricsSample
from trackside.journal.format import ConfigRecord, MetricsRecord
from trackside.sinks import mlflow as sink_
from trackside.system.clock import steady

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path)
    yield made
    made.close()


@pytest.mark.wheel
def test_a_sample_is_kept_as_it_is(kept: Kept) -> None:
    """The values as floats, under bare names, with the time of the emit."""
    kept.emit(3, 2, {"loss": 0.5, "ok": True, "n": 7}, "val", 1_700_000_000_123)
    record = kept.record()
    assert record == MetricsRecord(1, 1_700_000_000_123, 3, 2.0, "val", {"loss": 0.5, "ok": 1.0, "n": 7.0})
    assert all(type(value) is float for value in record.metrics.values())


def test_what_is_mutated_afterwards_stays_as_it_was(kept: Kept) -> None:
    """A training loop fills the same dictionary, and often the same array, again."""
    metrics = {"loss": 0.5}
    kept.emit(1, metrics=metrics)
    metrics["loss"] = 99.0
    assert kept.record().metrics == {"loss": 0.5}


def test_not_a_number_and_infinity_are_numbers(kept: Kept) -> None:
    """A loss that blew up is what one wants to see."""
    kept.emit(1, metrics={"a": math.nan, "b": math.inf, "c": -math.inf})
    assert repr(kept.record().metrics) == "{'a': nan, 'b': inf, 'c': -inf}"
    assert kept.dropped == 0


def test_what_is_no_number_is_dropped_counted_and_said_once(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    """A key at a time, once. The other metrics of the sample are kept."""
    for step in range(3):
        kept.emit(step, metrics={"loss": 0.5, "note": "text", "z": 1j})
    assert [record.metrics for record in kept.records()] == [{"loss": 0.5}] * 3
    assert kept.dropped == 6
    assert len(caplog.records) == 2
    assert "metric 'note' is dropped: " in caplog.text


@pytest.mark.parametrize("metrics", [None, 0.5, [1.0], "loss", {"loss"}])
def test_metrics_that_are_no_mapping(kept: Kept, metrics: Any, caplog: pytest.LogCaptureFixture) -> None:
    """The sample is dropped with a word on what it should have been. The sink continues."""
    for _ in range(12):
        kept.emit(1, metrics=metrics)
    assert kept.records() == []
    assert kept.dropped == 12
    assert len(caplog.records) == 1
    assert "metrics must be a mapping of names to numbers" in caplog.text
    kept.emit(2, metrics=OrderedDict(loss=1.0))
    assert kept.record().metrics == {"loss": 1.0}


def test_names_of_any_type_and_text(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """Numbers as names become text, text that no UTF-8 has is spelt out: nothing is lost by its name."""
    kept.emit(1, metrics={1: 0.5, "odd \udc80": 1.5, "": 2.5, "schön/ß": 3.5})
    assert kept.record().metrics == {"1": 0.5, "odd \\udc80": 1.5, "": 2.5, "schön/ß": 3.5}
    assert kept.dropped == 0
    assert len(caplog.records) == 1


# Steps


@pytest.mark.parametrize(
    ("given_step", "kept_step"),
    [(0, 0), (-5, -5), (True, 1), (7.0, 7), (2**63 - 1, 2**63 - 1), (-(2**63), -(2**63))],
)
def test_steps_that_are_numbers(kept: Kept, given_step: Any, kept_step: int, caplog) -> None:
    """Whatever counts as an int, and floats without a fraction."""
    kept.emit(given_step, metrics={"loss": 0.5})
    assert kept.record().step == kept_step
    assert not caplog.records


def test_numpy_and_torch_steps(kept: Kept) -> None:
    """A step out of an array or a tensor."""
    numpy = pytest.importorskip("numpy")
    torch = pytest.importorskip("torch")
    for step in (numpy.int64(3), numpy.float32(4.0), torch.tensor(5), torch.tensor([6])):
        kept.emit(step, metrics={"loss": 0.5})
    assert [record.step for record in kept.records()] == [3, 4, 5, 6]


def test_a_step_with_a_fraction_is_cut_counted_and_said_once(
    kept: Kept, caplog: pytest.LogCaptureFixture
) -> None:
    """Two samples may share the step it is cut to, so the warning says what to pass instead."""
    for step in (1.25, 1.5, 2.0):
        kept.emit(step, metrics={"loss": 0.5})
    assert [record.step for record in kept.records()] == [1, 1, 2]
    (warning,) = caplog.messages
    assert warning.startswith("the step 1.25 is not a whole number and is cut to 1")
    assert "Pass an int" in warning
    kept.bus.emit(LifecycleEvent("finished", status="FINISHED"))
    assert caplog.messages[1:] == ["2 samples had a step that is not a whole number"]


def test_a_missing_step_is_said_in_plain_words(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """The first time, with the step that is used. A habit of the program's is not counted as bad."""
    for _ in range(3):
        kept.emit(None, metrics={"loss": 0.5})
    kept.bus.emit(LifecycleEvent("finished", status="FINISHED"))
    assert caplog.messages == [
        "a sample came without a step and is kept as step 0. Pass step= to log() (logged once)"
    ]


@pytest.mark.parametrize("step", [math.nan, math.inf, "three", [], 2**63, 1e30, object()])
def test_a_step_that_is_none_is_counted_on(kept: Kept, step: Any, caplog: pytest.LogCaptureFixture) -> None:
    """From the last one, with one warning: never a step 0 that looks real."""
    kept.emit(step, metrics={"loss": 0.5})
    kept.emit(10, metrics={"loss": 0.5})
    kept.emit(step, metrics={"loss": 0.5})
    kept.emit(step, metrics={"loss": 0.5})
    assert [record.step for record in kept.records()] == [0, 10, 11, 12]
    (record,) = caplog.records
    assert "is not a 64-bit whole number, so its sample is kept as step 0" in record.getMessage()


# Epochs, prefixes, times


@pytest.mark.parametrize(("epoch", "kept_epoch"), [(None, None), (2, 2.0), (0.5, 0.5), (True, 1.0)])
def test_epochs(kept: Kept, epoch: Any, kept_epoch: float | None) -> None:
    """A number as a float. None stays away."""
    kept.emit(1, epoch, {"loss": 0.5})
    assert kept.record().epoch == kept_epoch


def test_an_epoch_that_is_no_number(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """Dropped as a metric would be. The sample is kept."""
    kept.emit(1, "first", {"loss": 0.5})
    record = kept.record()
    assert (record.epoch, record.metrics) == (None, {"loss": 0.5})
    assert kept.dropped == 1
    assert "metric 'epoch' is dropped" in caplog.text


@pytest.mark.parametrize(("prefix", "text"), [("val", "val"), (5, "5"), ("odd \udc80", "odd \\udc80")])
def test_prefixes(kept: Kept, prefix: Any, text: str) -> None:
    """Text, whatever it was: one of another type would be written and never read again."""
    kept.emit(1, None, {"loss": 0.5}, prefix)
    assert kept.record().prefix == text


@pytest.mark.parametrize(
    ("stamp", "milliseconds"),
    [
        (5, 5),
        (1_700_000_000_123.7, 1_700_000_000_123),
        (None, None),
        ("now", None),
        (math.nan, None),
        (-5.0, None),
    ],
)
def test_times_of_another_type(kept: Kept, stamp: Any, milliseconds: int | None) -> None:
    """A float is cut to milliseconds. What is no time is now."""
    before = time.time_ns() // 1_000_000
    kept.emit(1, None, {"loss": 0.5}, None, stamp)
    found = kept.record().timestamp_ms
    if milliseconds is None:
        assert before <= found <= time.time_ns() // 1_000_000
    else:
        assert found == milliseconds


anything = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.binary(max_size=4)
    | st.complex_numbers()
    | st.lists(st.integers(), max_size=2)
)


@settings(max_examples=50)
@given(
    samples=st.lists(
        st.builds(
            MetricsSample,
            anything,
            anything,
            anything | st.dictionaries(st.text(max_size=4) | st.integers(), anything, max_size=3),
            anything,
            anything,
        ),
        max_size=5,
    )
)
def test_whatever_comes_is_kept_or_counted(tmp_path_factory, samples: list[MetricsSample]) -> None:
    """No sample raises, breaks the sink or is written so that it can't be read."""
    logging.disable(logging.CRITICAL)
    with small_segments(1 << 15):
        kept = Kept(tmp_path_factory.mktemp("any"))
    try:
        for sample in samples:
            kept.bus.emit(sample)
        records = kept.records()
        assert kept.bus.faults(kept.sink) == 0
        assert len(records) + kept.dropped >= len(samples)
    finally:
        kept.close()
        logging.disable(logging.NOTSET)


# Configs


def test_a_config_is_masked_flat_and_whole(kept: Kept) -> None:
    """Secrets never reach the disk. Params are text."""
    config = {"optimizer": {"lr": 0.1, "betas": (0.9, 0.99)}, "hf_token": "hf_abcdefghijklmnopqrstuvwxyz"}
    kept.bus.emit(ConfigEvent(config, timestamp_ms=5))
    record = kept.record()
    assert isinstance(record, ConfigRecord)
    assert record.params["optimizer.lr"] == "0.1"
    assert record.document["optimizer"] == {"lr": 0.1, "betas": [0.9, 0.99]}
    assert record.timestamp_ms == 5
    assert b"hf_abcdef" not in b"".join(
        kept.journal.segment(number).read_bytes() for number in kept.journal.segment_numbers()
    )


def test_a_config_that_is_none(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and the training continues."""
    for _ in range(2):
        kept.bus.emit(ConfigEvent(5))
    assert kept.records() == []
    (record,) = caplog.records
    assert "a config is not logged: " in record.getMessage()
    assert kept.bus.faults(kept.sink) == 0


# Watching


def test_the_shipper_is_looked_after_every_few_seconds(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """On whichever thread emits then. Neither a clock that is set or frozen nor the samples' times matter."""
    later, cheap = steady(), 1e12
    monkeypatch.setattr(sink_, "steady", lambda: later)
    monkeypatch.setattr(sink_, "monotonic", lambda: cheap)
    kept.emit(1, None, {}, None, time.time_ns() // 1_000_000 + 10**9)
    assert kept.watched == 0
    for watched in (1, 2):
        later += 1.01 * sink_.WATCH_EVERY
        kept.emit(2, None, {}, None, 0)
        kept.emit(3, None, {}, None, 0)
        assert kept.watched == watched
    later, cheap = later + 2 * sink_.WATCH_EVERY, 0.0
    kept.emit(4, None, {}, None, 0)
    assert kept.watched == 2, "one cheap look at the clock is all that a sample pays for"


def test_a_journal_that_takes_no_more(kept: Kept) -> None:
    """After the run's end a straggler's sample raises nothing."""
    kept.writer.close()
    kept.emit(1, metrics={"loss": 0.5})
    assert kept.bus.faults(kept.sink) == 0


# What cannot be kept


class Unreadable:
    """A step as a tensor without data is one, or an array that was donated: an int by type, unreadable."""

    def __index__(self) -> int:
        raise RuntimeError("Array has been deleted")

    __float__ = __index__


def test_a_step_that_cannot_be_read(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """The values are kept under the next step, however often that happens. It is logged once."""
    kept.emit(4, metrics={"loss": 0.5})
    for _ in range(2 * FAULTS_BEFORE_DETACH):
        kept.emit(Unreadable(), metrics={"loss": 0.5})
    assert [record.step for record in kept.records()] == list(range(4, 25))
    assert kept.dropped == 0
    assert kept.bus.faults(kept.sink) == 0
    assert len(caplog.records) == 1


def test_what_cannot_be_kept_is_counted_and_the_sink_stays(
    kept: Kept, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without memory, say: the points are counted, it is logged once, and what comes later is kept."""

    def fail(_record: Any) -> bool:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(kept.writer, "append", fail)
        for step in range(2 * FAULTS_BEFORE_DETACH):
            kept.emit(step, metrics={"loss": 0.5, "acc": 0.5})
        kept.bus.emit(ConfigEvent({"lr": 1}))
    kept.emit(99, metrics={"loss": 0.5})
    assert kept.record().step == 99
    assert kept.dropped == 4 * FAULTS_BEFORE_DETACH
    assert [record.getMessage() for record in caplog.records] == [
        "a sample is dropped and counted: MemoryError:  (logged once)",
        "a config is not logged: MemoryError:  (logged once)",
    ]
