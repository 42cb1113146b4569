"""Everything that is kept as files, on the bus: its signal, its events, and the calls that emit them."""

from __future__ import annotations

import copy
import logging
import pickle
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest

import trackside
from trackside.artifact_calls import CALLS
from trackside.artifact_events import (
    ARTIFACT_EVENTS,
    AudioEvent,
    CheckpointEvent,
    DatasetEvent,
    DocumentEvent,
    FigureEvent,
    FileEvent,
    FolderEvent,
    HistogramEvent,
    ImageEvent,
    ModelEvent,
    TableEvent,
    TextEvent,
    VideoEvent,
)
from trackside.event_bus.bus import FAULTS_BEFORE_DETACH, Bus
from trackside.event_bus.slow_sinks import SLOW_SECONDS
from trackside.events import ArtifactEvent, ConfigEvent, MetricsSample
from trackside.sinks import CallbackSink, TransformedSink
from trackside.testing import MemorySink, capture

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = TextEvent(text="hello", artifact_file="hello.txt", timestamp_ms=1)


class Artifacts:
    """A sink with no other method."""

    def __init__(self) -> None:
        self.seen: list[ArtifactEvent] = []

    def on_artifact(self, event: ArtifactEvent) -> None:
        self.seen.append(event)


class Broken(Artifacts):
    """A sink that raises."""

    def on_artifact(self, event: ArtifactEvent) -> None:
        super().on_artifact(event)
        raise OSError("the sink is broken")


@pytest.fixture
def bus() -> Bus:
    """A bus of the test's own."""
    return Bus()


# The calls

VALUE = object()
CALLED: list[tuple[str, tuple[Any, ...], dict[str, Any], ArtifactEvent]] = [
    ("log_artifact", ("a.txt", "texts"), {}, FileEvent(path="a.txt", artifact_path="texts")),
    ("log_artifact", (), {"local_path": "b", "policy": "end"}, FileEvent(path="b", policy="end")),
    ("log_artifacts", ("a", "b"), {}, FolderEvent(path="a", artifact_path="b")),
    ("log_artifacts", (), {"local_dir": "a", "policy": "latest"}, FolderEvent(path="a", policy="latest")),
    (
        "log_audio",
        (VALUE, "a", 3),
        {"sample_rate": 8},
        AudioEvent(audio=VALUE, key="a", step=3, sample_rate=8),
    ),
    ("log_checkpoint", ("a.pt",), {}, CheckpointEvent(path="a.pt")),
    (
        "log_checkpoint",
        ("a.pt", 3, {"loss": 1}),
        {"name": "a", "policy": "latest"},
        CheckpointEvent(path="a.pt", step=3, metrics={"loss": 1}, name="a", policy="latest"),
    ),
    ("log_dataset", (VALUE, "eval"), {"name": "a"}, DatasetEvent(dataset=VALUE, context="eval", name="a")),
    ("log_dict", ({"a": 1}, "a.json"), {}, DocumentEvent(document={"a": 1}, artifact_file="a.json")),
    ("log_figure", (VALUE, "a.png"), {}, FigureEvent(figure=VALUE, artifact_file="a.png")),
    ("log_figure", (VALUE,), {"key": "a", "step": 3}, FigureEvent(figure=VALUE, key="a", step=3)),
    ("log_histogram", (VALUE, "a", 3), {}, HistogramEvent(values=VALUE, key="a", step=3)),
    ("log_image", (VALUE, "a.png"), {}, ImageEvent(image=VALUE, artifact_file="a.png")),
    ("log_image", (VALUE,), {"key": "a", "step": 3}, ImageEvent(image=VALUE, key="a", step=3)),
    ("log_model", (VALUE, "a"), {}, ModelEvent(model=VALUE, name="a")),
    (
        "log_model",
        (VALUE, "a", 3, {"loss": 1}, {"lr": 2}),
        {},
        ModelEvent(model=VALUE, name="a", step=3, metrics={"loss": 1}, params={"lr": 2}),
    ),
    ("log_table", (VALUE, "a.json"), {}, TableEvent(rows=VALUE, artifact_file="a.json")),
    ("log_text", ("hello", "a.txt"), {}, TextEvent(text="hello", artifact_file="a.txt")),
    ("log_video", (VALUE, "a", 3), {"fps": 8.0}, VideoEvent(video=VALUE, key="a", step=3, fps=8.0)),
]


def timeless(event: Any) -> Any:
    """``event`` without its time."""
    return msgspec.structs.replace(event, timestamp_ms=0)


@pytest.mark.parametrize(("name", "given", "more", "event"), CALLED)
def test_a_call_emits_its_event(
    name: str, given: tuple[Any, ...], more: dict[str, Any], event: ArtifactEvent, bus: Bus
) -> None:
    """With the arguments in its fields, and everything else by default. On any bus, and on the module."""
    for emitter, heard in ((bus, bus), (trackside, trackside.bus)):
        with heard.attached(Artifacts()) as sink:
            assert getattr(emitter, name)(*given, **more) is None
        assert [timeless(seen) for seen in sink.seen] == [timeless(event)]
        assert type(sink.seen[0]) is type(event)


def test_every_call_and_every_event_is_tried() -> None:
    """The list above has them all."""
    assert {name for name, *_ in CALLED} == {*CALLS}
    assert {type(event) for *_, event in CALLED} == {*ARTIFACT_EVENTS}


def test_an_event_has_the_time_of_the_call(bus: Bus) -> None:
    """Between the moments before and after it."""
    sink = bus.attach(Artifacts())
    before = trackside.MetricsSample(0).timestamp_ms
    bus.log_text("hello", "hello.txt")
    after = trackside.MetricsSample(0).timestamp_ms
    assert before <= sink.seen[0].timestamp_ms <= after


@pytest.mark.parametrize("odd", [np.array([1.0, 2.0]), np.array([]), 5, "loss", [("loss", 1)]])
def test_odd_metrics_of_a_checkpoint_and_a_model_reach_the_sink_as_they_are(odd: Any, bus: Bus) -> None:
    """An array is neither true nor false, and the call raises nothing all the same."""
    sink: Any = bus.attach(Artifacts())
    bus.log_checkpoint("a.pt", metrics=odd)
    bus.log_model(VALUE, "a", metrics=odd, params=odd)
    assert [sink.seen[0].metrics, sink.seen[1].metrics, sink.seen[1].params] == [odd, odd, odd] or all(
        found is odd for found in (sink.seen[0].metrics, sink.seen[1].metrics, sink.seen[1].params)
    )


# Who hears what


@pytest.mark.wheel
def test_artifacts_go_to_on_artifact_and_nowhere_else(bus: Bus) -> None:
    """And it gets nothing else. A plain function gets the metrics alone."""
    sink, memory = bus.attach(Artifacts()), bus.attach(MemorySink())
    samples: list[MetricsSample] = []
    bus.attach(samples.append)
    bus.emit(TEXT)
    bus.emit(MetricsSample(1, metrics={"loss": 0.5}))
    bus.emit(ConfigEvent({"lr": 0.1}))
    assert sink.seen == memory.artifacts == [TEXT]
    assert len(samples) == len(memory.samples) == len(memory.configs) == 1


@pytest.mark.parametrize("kind", ARTIFACT_EVENTS)
def test_every_kind_is_sent_on_one_signal(kind: type[ArtifactEvent], bus: Bus) -> None:
    """``bus.artifacts`` is a blinker signal, and its receivers get the event as ``event=``."""
    fields: dict[str, Any] = {field.name: VALUE for field in msgspec.structs.fields(kind) if field.required}
    event: Any = kind(**fields)
    heard: list[Any] = []

    def receive(sender: Any, event: Any) -> None:
        heard.append((sender, event))

    bus.artifacts.connect(receive)
    bus.emit(event)
    bus.artifacts.send("mine", event=event)
    bus.artifacts.disconnect(receive)
    bus.emit(event)
    assert heard == [(bus, event), ("mine", event)]


def test_the_signal_carries_its_description(bus: Bus) -> None:
    """As the others do. It is one of the bus's own namespace."""
    assert bus.namespace["artifacts"] is bus.artifacts
    assert "ArtifactEvent" in str(bus.artifacts.__doc__)


def test_receivers_for_one_sender_and_muting(bus: Bus) -> None:
    """As any user of blinker expects."""
    heard: list[Any] = []

    @bus.artifacts.connect_via("mine")
    def receive(_sender: Any, event: Any) -> None:
        heard.append(event)

    bus.emit(TEXT)
    bus.artifacts.send("mine", event=TEXT)
    with bus.artifacts.muted():
        bus.artifacts.send("mine", event=TEXT)
    assert heard == [TEXT]
    assert bool(bus.artifacts.receivers)


def test_sinks_hear_in_the_order_attached_and_events_in_the_order_logged(bus: Bus) -> None:
    """A sink of metrics in between changes nothing."""
    order: list[tuple[int, Any]] = []

    class Numbered:
        def __init__(self, number: int) -> None:
            self.number = number

        def on_artifact(self, event: Any) -> None:
            order.append((self.number, event.artifact_file))

    for number in range(5):
        bus.attach(Numbered(number))
        bus.attach(CallbackSink("loss", lambda *_: None))
    for name in ("a", "b"):
        bus.log_text("hello", name)
    assert order == [(number, name) for name in ("a", "b") for number in range(5)]


def test_metrics_are_logged_as_quickly_beside_an_attached_artifact_sink(bus: Bus) -> None:
    """The run's sink is still the only one that hears metrics, so ``log`` makes no events."""

    class Quick(MemorySink):
        def __init__(self) -> None:
            super().__init__()
            self.quick: list[Any] = []

        def quick_log(self, *given: Any) -> bool:
            self.quick.append(given)
            return True

    quick = bus.attach(Quick())
    bus.attach(Artifacts())
    bus.log({"loss": 0.5}, step=1)
    bus.log_text("hello", "hello.txt")
    bus.log({"loss": 0.25}, step=2)
    assert (len(quick.samples), len(quick.quick), len(quick.artifacts)) == (1, 1, 1)


# Errors


def test_a_broken_sink_holds_up_no_other_and_is_detached(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """One record with the traceback, each error counted, and after ten in a row it is gone."""
    broken, after = bus.attach(Broken()), bus.attach(Artifacts())
    for _ in range(FAULTS_BEFORE_DETACH - 1):
        bus.log_text("hello", "hello.txt")
    assert bus.faults(broken) == FAULTS_BEFORE_DETACH - 1
    for _ in range(5):
        bus.log_text("hello", "hello.txt")
    assert len(broken.seen) == FAULTS_BEFORE_DETACH
    assert len(after.seen) == FAULTS_BEFORE_DETACH + 4
    assert bus.sinks == (after,)
    first, last = caplog.records
    assert first.exc_info is not None
    assert "was detached after 10 errors in a row" in last.getMessage()


def test_errors_in_artifacts_and_metrics_count_together(bus: Bus) -> None:
    """A sink that hears metrics in between has not failed ten times in a row."""

    class Half(Broken):
        def on_metrics(self, sample: MetricsSample) -> None:
            pass

    half = bus.attach(Half())
    for step in range(2 * FAULTS_BEFORE_DETACH):
        bus.log({"loss": 0.5}, step=step)
        bus.log_text("hello", "hello.txt")
    assert bus.faults(half) == 2 * FAULTS_BEFORE_DETACH
    assert half in bus.sinks


def test_a_broken_receiver_is_said_once(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """The sinks and the other receivers hear the event."""
    sink, heard = bus.attach(Artifacts()), []

    def fail(_sender: Any, event: Any) -> None:
        raise OSError(event)

    def hear(_sender: Any, event: Any) -> None:
        heard.append(event)

    bus.artifacts.connect(fail)
    bus.artifacts.connect(hear)
    for _ in range(3):
        bus.emit(TEXT)
    assert sink.seen == heard == [TEXT] * 3
    assert caplog.text.count("of signal 'artifacts' failed") == 1


def test_a_sink_that_logs_an_artifact_for_each_one_comes_to_an_end(bus: Bus) -> None:
    """It does not hear its own ones without end. Others hear them all."""

    class Thumbnails(Artifacts):
        def on_artifact(self, event: Any) -> None:
            super().on_artifact(event)
            bus.log_text("smaller", f"{event.artifact_file}.small")

    bus.attach(Thumbnails())
    others = bus.attach(Artifacts())
    for number in range(3):
        bus.log_text("hello", str(number))
    names = [event.artifact_file for event in others.seen]  # type: ignore[attr-defined]
    assert {"0", "0.small", "1", "1.small", "2", "2.small"} <= {*names}
    assert len(names) < 20


def test_coroutine_methods_are_refused(bus: Bus) -> None:
    """When the sink is attached, not at each event."""

    class Later:
        async def on_artifact(self, event: Any) -> None:
            """It would never run."""

    with pytest.raises(TypeError, match="is a coroutine function"):
        bus.attach(Later())


def test_an_event_of_no_kind_is_refused_in_the_log(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """The class that the kinds derive from is none of them."""
    sink = bus.attach(Artifacts())
    bus.emit(ArtifactEvent())
    assert sink.seen == []
    assert "ArtifactEvent is not an event" in caplog.text
    assert "one of the events in trackside.artifact_events" in caplog.text


def test_ctrl_c_in_a_sink_is_not_swallowed(bus: Bus) -> None:
    """It ends the training, as in any other code."""

    class Interrupted:
        def on_artifact(self, event: Any) -> None:
            raise KeyboardInterrupt

    bus.attach(Interrupted())
    with pytest.raises(KeyboardInterrupt):
        bus.log_text("hello", "hello.txt")


# Without a listener


def test_silence_is_reported_once_on_rank_0(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One warning for all calls, and none on another rank."""
    monkeypatch.delenv("RANK", raising=False)
    bus = Bus()
    for name, given, more, _ in CALLED:
        getattr(bus, name)(*given, **more)
    assert caplog.text.count("no run is started and no sink attached") == 1
    caplog.clear()
    monkeypatch.setenv("RANK", "1")
    Bus().log_text("hello", "hello.txt")
    assert caplog.records == []


def test_a_sink_of_metrics_alone_does_not_hide_that_files_go_nowhere(
    bus: Bus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics have a listener here, and artifacts have none."""
    monkeypatch.delenv("RANK", raising=False)
    bus.attach(CallbackSink("loss", lambda *_: None))
    bus.log({"loss": 0.5}, step=1)
    assert caplog.records == []
    bus.log_text("hello", "hello.txt")
    assert "no run is started and no sink attached" in caplog.text


# Slow sinks


def emit_slowly(bus: Bus, sink: Any) -> None:
    """Enough events for a judgement, each of which keeps the loop waiting."""
    bus.attach(sink)
    for _ in range(100):
        bus.emit(TEXT)


def slow(**attributes: Any) -> Any:
    """A sink that takes a while for each artifact."""

    def wait(_self: Any, _event: Any) -> None:
        end = trackside.event_bus.bus.perf_counter() + 3 * SLOW_SECONDS
        while trackside.event_bus.bus.perf_counter() < end:
            pass

    return type("Slow", (), {"on_artifact": wait, **attributes})()


def test_a_slow_sink_of_yours_is_named(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """As one that is slow with metrics."""
    emit_slowly(bus, slow())
    assert caplog.text.count("is slow") == 1


def test_the_runs_own_sink_is_not_slow(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """It copies what you log, which takes as long as it is large."""
    emit_slowly(bus, slow(emits_nothing=True))
    assert caplog.records == []


# Sinks that come with trackside


def test_a_transformed_sink_passes_artifacts_on(bus: Bus, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its transform is about metrics. Other ranks stay silent, as it says."""
    monkeypatch.delenv("RANK", raising=False)
    inner = Artifacts()
    bus.attach(TransformedSink(inner, {"include": "loss"}))
    bus.emit(TEXT)
    monkeypatch.setenv("RANK", "1")
    elsewhere = Artifacts()
    bus.attach(TransformedSink(elsewhere, {"ranks": [0]}))
    bus.emit(TEXT)
    assert (inner.seen, elsewhere.seen) == ([TEXT, TEXT], [])


def train() -> None:
    """A training as a user writes it."""
    with trackside.start("digits") as run:
        run.log_image(VALUE, key="samples", step=1)
        run.log_image(VALUE, key="samples", step=2)
        trackside.log_artifact("data/digits.csv", "data")
        trackside.log_checkpoint("checkpoints/last/", step=2)
        trackside.log_model(VALUE, "digits")
        trackside.log_dataset(VALUE)


def test_capture_collects_artifacts() -> None:
    """By kind in the order logged, and by place."""
    with capture() as logged:
        train()
    assert [type(event) for event in logged.artifacts] == [
        ImageEvent,
        ImageEvent,
        FileEvent,
        CheckpointEvent,
        ModelEvent,
        DatasetEvent,
    ]
    latest: Any = logged.artifact("samples")
    assert (latest.step, latest.image) == (2, VALUE)
    places = ("data/digits.csv", "last", "digits", "")
    assert [logged.artifact(place) for place in places] == logged.artifacts[2:]
    with pytest.raises(KeyError, match="nothing"):
        logged.artifact("nothing")
    assert "6 artifacts" in repr(logged)
    logged.clear()
    assert logged.artifacts == []


# Copies


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda bus: pickle.loads(pickle.dumps(bus))])
def test_a_copied_default_bus_logs_to_the_same_sinks(copied: Callable[[Any], Any]) -> None:
    """Frameworks copy what holds a bus or one of its calls."""
    with trackside.bus.attached(Artifacts()) as sink:
        copied(trackside.bus).log_text("hello", "hello.txt")
        copied(trackside.log_text)("hello", "hello.txt")
    assert len(sink.seen) == 2


def test_nothing_is_said_where_all_is_well(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """No record at any level."""
    caplog.set_level(logging.DEBUG)
    bus.attach(Artifacts())
    for name, given, more, _ in CALLED:
        getattr(bus, name)(*given, **more)
    assert caplog.records == []
