"""Params, tags and linked metrics on the way to MLflow: what the sink journals of them, and what it says."""

from __future__ import annotations

import logging
import math
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tests.sinks.kept import Kept
from trackside.events import LinkedSample, MetricLink, MetricsSample, ParamsEvent
from trackside.journal.format import LinkedMetricsRecord, MetricsRecord, ParamsRecord, TagsRecord
from trackside.redaction.redact import redact
from trackside.sinks import MemorySink

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LINK = MetricLink("m-1", "digits", "0a1b")
KEY = "sk-proj-" + "Zq4" * 12


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path)
    yield made
    made.close()


def test_params_and_tags_are_kept_masked(kept: Kept) -> None:
    """As configurations and the tags of ``start()`` are. Nothing else is changed, however long it is."""
    long = "x" * 20_000
    assert kept.sink.keep_params({"lr": "0.1", "api_key": KEY, "bad=name": long}, 5)
    assert kept.sink.keep_tags({"stage": "final", "note": f"use {KEY}", "empty": ""}, 6)
    params, tags = kept.records()
    assert params == ParamsRecord(1, 5, {"lr": "0.1", "api_key": "***", "bad=name": long})
    assert tags == TagsRecord(2, 6, {"stage": "final", "note": "use ***", "empty": ""})


def test_a_secret_param_is_masked_elsewhere(kept: Kept) -> None:
    """An exception may quote it, as it may quote a configuration."""
    kept.sink.keep_params({"db_password": "korrekt-pferd-batterie"})
    assert "korrekt" not in redact("connect('korrekt-pferd-batterie') failed")


def test_no_text_is_no_record(kept: Kept) -> None:
    """Nothing was to be kept, so nothing is lost."""
    assert kept.sink.keep_params({})
    assert kept.sink.keep_tags({})
    assert kept.records() == []


@pytest.mark.parametrize("odd", [None, 7, ["a"], {"a": object()}, {1: 2}, {"a\ud800": "b\ud800"}])
def test_odd_texts_raise_nothing(kept: Kept, odd: Any, caplog: pytest.LogCaptureFixture) -> None:
    """They are kept as text, or told."""
    answers = [kept.sink.keep_params(odd), kept.sink.keep_tags(odd)]
    told = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(kept.records()) == answers.count(True)
    assert len(told) == answers.count(False)


def test_what_the_journal_does_not_take_is_told(kept: Kept, caplog: pytest.LogCaptureFixture) -> None:
    """A journal whose room is used up, or that is closed. Once for each kind, not for each param."""
    kept.writer.close()
    assert not kept.sink.keep_params({"lr": "0.1"})
    assert not kept.sink.keep_params({"depth": "3"})
    assert not kept.sink.keep_tags({"stage": "final"})
    assert [record.getMessage() for record in caplog.records] == [
        "a param is lost: the journal does not take it (logged once)",
        "a tag is lost: the journal does not take it (logged once)",
    ]


def test_linked_metrics_keep_their_link(kept: Kept) -> None:
    """Whatever kind of number they are. The same names without a link are plain metrics before and after."""
    for step in range(3):
        kept.bus.log({"loss": 0.5}, step=step)
    metrics = {"loss": 1, "nan": math.nan}
    kept.bus.emit(LinkedSample(7, metrics=metrics, timestamp_ms=1_700_000_000_000, link=LINK))
    kept.bus.log({"loss": 0.25}, step=8)
    *_, linked, last = kept.records()
    assert repr(linked) == repr(
        LinkedMetricsRecord(4, 1_700_000_000_000, 7, None, None, {"loss": 1.0, "nan": math.nan}, LINK)
    )
    assert type(last) is MetricsRecord
    assert kept.dropped == 0
    kept.bus.emit(LinkedSample(9, metrics={"loss": "high"}, link=LINK))
    assert kept.dropped == 1


def test_the_same_metrics_linked_again_and_again_keep_their_link(kept: Kept) -> None:
    """The journal knows their names by then. What takes plain samples quickly does not take these."""
    for step in range(20):
        kept.emit(step, None, {"loss": 0.5})
        kept.bus.emit(LinkedSample(step, metrics={"loss": 0.5}, link=MetricLink(f"m-{step}")))
    found = kept.records()
    assert [type(record) for record in found] == [MetricsRecord, LinkedMetricsRecord] * 20
    assert [record.link.model_id for record in found[1::2]] == [f"m-{step}" for step in range(20)]


def test_odd_links_are_kept_as_text(kept: Kept) -> None:
    """A record of a wrong type could be written, and not be read again."""
    link: Any = MetricLink("m\ud800", 7, None)  # type: ignore[arg-type]
    kept.bus.emit(LinkedSample(1, metrics={"loss": 1.0}, link=link))
    assert kept.dropped == 0
    assert kept.record().link == MetricLink("m\\ud800", "7", None)


def test_other_sinks_see_params_and_linked_metrics_on_the_bus(kept: Kept) -> None:
    """As a configuration and as a sample. The journal gets each once."""
    memory = kept.bus.attach(MemorySink())
    kept.bus.emit(ParamsEvent({"lr": "0.1"}))
    kept.bus.emit(LinkedSample(1, metrics={"loss": 0.5}, link=LINK))
    assert memory.configs == [{"lr": "0.1"}]
    assert memory.metrics("loss") == [(1, 0.5)]
    assert isinstance(memory.samples[0], MetricsSample)
    assert [type(record) for record in kept.records()] == [ParamsRecord, LinkedMetricsRecord]


def test_several_threads(kept: Kept) -> None:
    """None of it is lost or mixed up."""

    def log(name: str) -> None:
        for number in range(200):
            assert kept.sink.keep_params({f"{name}{number}": name})
            assert kept.sink.keep_tags({"thread": name})
            kept.bus.emit(LinkedSample(number, metrics={name: 1.0}, link=MetricLink(name)))

    threads = [threading.Thread(target=log, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = kept.records()
    assert len(found) == 4 * 600
    params = {
        key: value for record in found if type(record) is ParamsRecord for key, value in record.texts.items()
    }
    assert params == {f"{name}{number}": name for name in "abcd" for number in range(200)}
    linked = [record for record in found if type(record) is LinkedMetricsRecord]
    assert all([*record.metrics] == [record.link.model_id] for record in linked)
