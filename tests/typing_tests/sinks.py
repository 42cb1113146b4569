"""Sinks as users write and attach them."""

from typing import Any

from typing_extensions import assert_type

import trackside
from trackside import ArtifactEvent, Bus, ConfigEvent, LifecycleEvent, MetricsSample
from trackside.artifact_events import ImageEvent
from trackside.protocols import AnySink, OnArtifact, OnConfig, OnLifecycle, OnMetrics, Sink
from trackside.sinks import CallbackSink, EarlyStopping, MemorySink, PrometheusSink, TransformedSink


class Losses:
    """Only metrics, under a parameter name of its own."""

    def __init__(self) -> None:
        self.steps: list[int | None] = []

    def on_metrics(self, record: MetricsSample) -> None:
        self.steps.append(record.step)


class Configs:
    """Only configurations."""

    def on_config(self, event: ConfigEvent) -> None:
        print(event.config)


class Pictures:
    """Only what is kept as files."""

    def on_artifact(self, event: ArtifactEvent) -> None:
        if isinstance(event, ImageEvent):
            assert_type(event.key, str | None)


class Endings:
    """The end and what belongs to it."""

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        print(event.kind)

    def close(self) -> None:
        print("closed")


def show(sample: MetricsSample) -> None:
    print(sample.metrics)


bus = Bus("mine")

# attach() returns the sink's own type.
assert_type(bus.attach(Losses()), Losses)
assert_type(bus.attach(Losses()).steps, list[int | None])
assert_type(bus.attach(Configs()), Configs)
assert_type(bus.attach(Endings()), Endings)
assert_type(bus.attach(Pictures()), Pictures)
assert_type(bus.attach(MemorySink()), MemorySink)
assert_type(trackside.bus.attach(EarlyStopping("val/loss", patience=3)).should_stop, bool)
bus.attach(show)
bus.attach(CallbackSink("loss", lambda value, step: print(value.is_integer(), step)))
bus.attach(TransformedSink(Losses(), {"include": "loss", "every_n_steps": 10}))
assert_type(bus.attach(PrometheusSink(port=0)).port, int | None)

with bus.attached(MemorySink()) as memory:
    assert_type(memory, MemorySink)

bus.detach(show)
assert_type(bus.faults(show), int)
for attached in bus.sinks:
    assert_type(attached, AnySink)

# The protocols: each is one method, and a sink is any of them.
metrics: OnMetrics = Losses()
configs: OnConfig = Configs()
endings: OnLifecycle = Endings()
pictures: OnArtifact = Pictures()
sink: Sink = Endings()
wrong: OnConfig = Losses()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]


def is_sink(x: object) -> bool:
    if isinstance(x, Sink):
        assert_type(x, OnMetrics | OnConfig | OnLifecycle | OnArtifact)
        return True
    return False


# What attach() refuses at run time, a type checker refuses before.
class Nothing:
    def on_metric(self, sample: MetricsSample) -> None:
        """A slip of the pen."""


class TooFew:
    def on_metrics(self) -> None:
        """It takes no sample."""


bus.attach(Nothing())  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
bus.attach(TooFew())  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
bus.attach(Losses)  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]
bus.attach("console")  # type: ignore[type-var]  # pyright: ignore[reportArgumentType]


def anything(value: Any) -> None:
    bus.attach(value)
