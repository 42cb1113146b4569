"""The bus: who hears what, in which order, and whose errors stay with whom."""

from __future__ import annotations

import functools
import gc
import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from blinker import Signal

from trackside.event_bus.bus import FAULTS_BEFORE_DETACH, Bus
from trackside.events import ConfigEvent, Event, LifecycleEvent, MetricsSample

SAMPLE = MetricsSample(1, metrics={"loss": 0.5})


class Recorder:
    """A sink that keeps what it gets."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def on_metrics(self, sample: MetricsSample) -> None:
        self.seen.append(sample)

    def on_config(self, event: ConfigEvent) -> None:
        self.seen.append(event)

    def on_lifecycle(self, event: LifecycleEvent) -> None:
        self.seen.append(event)


class Faulty(Recorder):
    """A sink that raises as long as ``broken`` is set."""

    broken = True

    def on_metrics(self, sample: MetricsSample) -> None:
        super().on_metrics(sample)
        if self.broken:
            raise ValueError("sink is broken")


@pytest.fixture
def bus() -> Bus:
    """A bus of the test's own."""
    return Bus()


# Routing


@pytest.mark.wheel
def test_each_event_goes_to_the_handler_of_its_type(bus: Bus) -> None:
    """``on_metrics``, ``on_config`` and ``on_lifecycle`` get their own kind and nothing else."""
    calls: list[tuple[str, object]] = []

    class Sink:
        def on_metrics(self, event: object) -> None:
            calls.append(("metrics", event))

        def on_config(self, event: object) -> None:
            calls.append(("config", event))

        def on_lifecycle(self, event: object) -> None:
            calls.append(("lifecycle", event))

    bus.attach(Sink())
    events: list[Event] = [SAMPLE, ConfigEvent({"lr": 0.1}), LifecycleEvent("started")]
    for event in events:
        bus.emit(event)
    assert calls == list(zip(("metrics", "config", "lifecycle"), events, strict=True))


def test_a_sink_may_have_only_some_of_the_methods(bus: Bus) -> None:
    """What a sink has no method for passes it by."""

    class OnlyConfig:
        def __init__(self) -> None:
            self.seen: list[ConfigEvent] = []

        def on_config(self, event: ConfigEvent) -> None:
            self.seen.append(event)

    sink = bus.attach(OnlyConfig())
    bus.emit(SAMPLE)
    bus.emit(ConfigEvent({}))
    assert sink.seen == [ConfigEvent({}, timestamp_ms=sink.seen[0].timestamp_ms)]


def test_sinks_are_called_in_the_order_attached(bus: Bus) -> None:
    """Blinker promises no order. The bus does, also after one was taken out and put back."""
    called: list[int] = []

    def append(number: int, _sample: MetricsSample) -> None:
        called.append(number)

    sinks = [functools.partial(append, number) for number in range(20)]
    for sink in sinks:
        bus.attach(sink)
    bus.emit(SAMPLE)
    assert called == list(range(20))
    called.clear()
    bus.detach(sinks[0])
    bus.attach(sinks[0])
    bus.emit(SAMPLE)
    assert called == [*range(1, 20), 0]


def test_sinks_are_held_strongly(bus: Bus) -> None:
    """A sink without other references keeps receiving."""
    seen: list[MetricsSample] = []
    bus.attach(functools.partial(seen.append))
    gc.collect()
    bus.emit(SAMPLE)
    assert seen == [SAMPLE]


def test_a_plain_function_gets_the_metrics(bus: Bus) -> None:
    """A function, or a method, is a sink of metrics."""
    seen: list[Any] = []
    bus.attach(seen.append)
    bus.emit(SAMPLE)
    bus.emit(ConfigEvent({}))
    assert seen == [SAMPLE]


@pytest.mark.parametrize("nothing", [object(), 5, None, "sink", Recorder])
def test_what_is_no_sink_is_refused(bus: Bus, nothing: Any) -> None:
    """An object without any of the methods, and a class instead of an object, are errors at once."""
    with pytest.raises(TypeError, match="is not a sink"):
        bus.attach(nothing)
    assert bus.sinks == ()


def test_attaching_twice_changes_nothing(bus: Bus) -> None:
    """The same sink gets each event once. A bound method, made anew each time, is the same one too."""
    recorder = bus.attach(Recorder())
    bus.attach(recorder)
    target = Recorder()
    bus.attach(target.on_metrics)
    bus.attach(target.on_metrics)
    bus.emit(SAMPLE)
    assert recorder.seen == [SAMPLE]
    assert target.seen == [SAMPLE]
    bus.detach(target.on_metrics)
    assert bus.sinks == (recorder,)


def test_equal_sinks_are_two_sinks(bus: Bus) -> None:
    """Equality is the sink's own business: two dataclasses of equal content both receive."""

    @dataclass
    class Counter:
        total: int = 0

        def on_metrics(self, _sample: MetricsSample) -> None:
            self.total += 1

    one, other = bus.attach(Counter()), bus.attach(Counter())
    bus.emit(SAMPLE)
    assert (one.total, other.total) == (1, 1)
    bus.detach(other)
    assert len(bus.sinks) == 1
    assert bus.sinks[0] is one


def test_detaching_what_is_not_attached_changes_nothing(bus: Bus) -> None:
    """``detach`` is for clean-up code, which can't know."""
    recorder = bus.attach(Recorder())
    bus.detach(Recorder())
    assert bus.sinks == (recorder,)


def test_attached_lasts_for_the_block(bus: Bus) -> None:
    """``with bus.attached(sink)`` detaches however the block ends."""
    recorder = Recorder()

    def leave_by_an_exception() -> None:
        with bus.attached(recorder) as sink:
            assert sink is recorder
            bus.emit(SAMPLE)
            raise KeyError

    with pytest.raises(KeyError):
        leave_by_an_exception()
    bus.emit(SAMPLE)
    assert recorder.seen == [SAMPLE]
    assert bus.sinks == ()


# Isolation


def test_a_faulty_sink_holds_up_nobody(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """The emitter sees nothing, the sinks before and behind it get everything."""
    before, faulty, behind = (bus.attach(sink) for sink in (Recorder(), Faulty(), Recorder()))
    bus.emit(SAMPLE)
    bus.emit(SAMPLE)
    assert before.seen == behind.seen == [SAMPLE, SAMPLE]
    assert bus.faults(faulty) == 2
    assert bus.faults(before) == 0


def test_a_faulty_sink_is_logged_once_with_its_traceback(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """The first error shows where it came from. The following are only counted."""
    faulty = bus.attach(Faulty())
    for _ in range(FAULTS_BEFORE_DETACH - 1):
        bus.emit(SAMPLE)
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "Faulty" in record.getMessage()
    assert "ValueError: sink is broken" in caplog.text
    assert "in on_metrics" in caplog.text
    assert bus.faults(faulty) == FAULTS_BEFORE_DETACH - 1


def test_a_sink_is_detached_after_ten_errors_in_a_row(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """It is said, and the others continue."""
    faulty, other = bus.attach(Faulty()), bus.attach(Recorder())
    for _ in range(FAULTS_BEFORE_DETACH + 5):
        bus.emit(SAMPLE)
    assert FAULTS_BEFORE_DETACH == 10
    assert len(faulty.seen) == 10
    assert len(other.seen) == 15
    assert bus.sinks == (other,)
    assert "detached after 10 errors in a row" in caplog.records[-1].getMessage()
    assert bus.faults(faulty) == 0, "it is attached no more"


def test_one_success_starts_the_count_anew(bus: Bus) -> None:
    """Nine errors, a success, nine errors: still attached, all of them counted."""
    faulty = bus.attach(Faulty())
    for _ in range(2):
        faulty.broken = True
        for _ in range(FAULTS_BEFORE_DETACH - 1):
            bus.emit(SAMPLE)
        faulty.broken = False
        bus.emit(SAMPLE)
    assert bus.sinks == (faulty,)
    assert bus.faults(faulty) == 2 * (FAULTS_BEFORE_DETACH - 1)


def test_ctrl_c_in_a_sink_is_not_swallowed(bus: Bus) -> None:
    """Only ``Exception`` is a sink's fault."""

    def interrupted(_sample: MetricsSample) -> None:
        raise KeyboardInterrupt

    bus.attach(interrupted)
    with pytest.raises(KeyboardInterrupt):
        bus.emit(SAMPLE)


def test_what_is_no_event_is_refused_in_the_log(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """``emit`` never raises into the training, whatever it is given."""
    recorder = bus.attach(Recorder())
    bus.emit({"loss": 0.5})  # type: ignore[arg-type, unused-ignore]
    bus.postpone(5)  # type: ignore[arg-type]
    bus.deliver_postponed()
    assert recorder.seen == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
    assert "dict is not an event. Emit a MetricsSample" in caplog.text


# Coroutines


async def coroutine(*_: Any, **__: Any) -> None:
    """Fail at every send, because it is never awaited."""


class AsyncSink:
    async def on_metrics(self, _sample: MetricsSample) -> None:
        """As above."""


class AsyncCallable:
    async def __call__(self, *_: Any, **__: Any) -> None:
        """As above."""


@pytest.mark.parametrize("sink", [coroutine, functools.partial(coroutine), AsyncSink(), AsyncCallable()])
def test_coroutine_sinks_are_refused(bus: Bus, sink: Any) -> None:
    """They would never be awaited."""
    with pytest.raises(TypeError, match=r"is a coroutine function\. Connect a plain function"):
        bus.attach(sink)
    assert bus.sinks == ()


@pytest.mark.parametrize("receiver", [coroutine, functools.partial(coroutine), AsyncCallable()])
def test_coroutine_receivers_are_refused(bus: Bus, receiver: Any) -> None:
    """Blinker would raise at each send instead."""
    with pytest.raises(TypeError, match="is a coroutine function"):
        bus.metrics.connect(receiver)
    assert not bus.metrics.receivers


# Blinker


def test_the_signals_are_blinker_signals(bus: Bus) -> None:
    """A blinker user finds what he knows: name, doc, isinstance."""
    for name in ("metrics", "config", "lifecycle"):
        signal = getattr(bus, name)
        assert isinstance(signal, Signal)
        assert signal.name == name  # type: ignore[attr-defined, unused-ignore]
        assert signal.__doc__
    assert bus.namespace.signal("metrics") is bus.metrics


def test_plain_connect_and_send(bus: Bus) -> None:
    """``connect(f)`` hears ``emit``. ``send(sender, event=...)`` reaches receivers and sinks alike."""
    heard: list[tuple[object, object]] = []

    def receiver(sender: object, event: object) -> str:
        heard.append((sender, event))
        return "done"

    bus.metrics.connect(receiver)
    sink = bus.attach(Recorder())
    bus.emit(SAMPLE)
    results = bus.metrics.send("me", event=SAMPLE)
    assert heard == [(bus, SAMPLE), ("me", SAMPLE)]
    assert sink.seen == [SAMPLE, SAMPLE]
    assert (receiver, "done") in results


def test_weak_receivers_go_with_their_owner(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """As in blinker, a receiver is held weakly unless asked for otherwise."""
    recorder, heard = Recorder(), []

    def strong(_sender: object, event: object) -> None:
        heard.append(event)

    def receiver(_sender: object, event: Any) -> None:
        recorder.on_metrics(event)

    bus.metrics.connect(receiver)
    bus.metrics.connect(strong, weak=False)
    bus.emit(SAMPLE)
    del receiver, strong
    gc.collect()
    bus.emit(SAMPLE)
    assert recorder.seen == [SAMPLE]
    assert heard == [SAMPLE, SAMPLE]
    assert not caplog.records


def test_receivers_errors_are_isolated(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """One that raises is logged once with its traceback. The others and the emitter continue."""
    heard: list[object] = []

    def failing_receiver_of_this_test(_sender: object, event: object) -> None:
        raise ZeroDivisionError("in a receiver")

    def hearing(_sender: object, event: object) -> None:
        heard.append(event)

    bus.metrics.connect(failing_receiver_of_this_test)
    bus.metrics.connect(hearing)
    for _ in range(3):
        bus.emit(SAMPLE)
    assert heard == [SAMPLE] * 3
    assert [hearing] == [receiver for receiver, _ in bus.metrics.send(bus, event=SAMPLE)]
    (record,) = caplog.records
    assert "failing_receiver_of_this_test of signal 'metrics' failed" in record.getMessage()
    assert "ZeroDivisionError: in a receiver" in caplog.text


def test_connecting_for_one_sender(bus: Bus) -> None:
    """The sender of ``emit`` is the bus."""
    heard: list[object] = []

    def receiver(_sender: object, event: object) -> None:
        heard.append(event)

    bus.metrics.connect(receiver, sender="somebody else")
    bus.emit(SAMPLE)
    assert heard == []
    assert bus.metrics.has_receivers_for("somebody else")
    assert not bus.metrics.has_receivers_for(bus)
    bus.metrics.send("somebody else", event=SAMPLE)
    assert heard == [SAMPLE]


def test_blinkers_other_ways_work(bus: Bus) -> None:
    """``connect_via``, ``connected_to``, ``muted`` and ``disconnect``."""
    heard: list[str] = []

    @bus.metrics.connect_via(bus)
    def by_decorator(_sender: object, event: object) -> None:
        heard.append("decorator")

    def temporary(_sender: object, event: object) -> None:
        heard.append("temporary")

    with bus.metrics.connected_to(temporary, sender=bus):
        bus.emit(SAMPLE)
    assert sorted(heard) == ["decorator", "temporary"]
    with bus.metrics.muted():
        bus.emit(SAMPLE)
        assert bus.metrics.send(bus, event=SAMPLE) == []
    bus.metrics.disconnect(by_decorator)
    bus.emit(SAMPLE)
    assert len(heard) == 2


def test_sinks_alone_are_as_good_as_receivers(bus: Bus) -> None:
    """``emit`` calls them without blinker. Muting, joining and leaving work as if it did not."""
    sink, heard = bus.attach(Recorder()), []

    def receiver(sender: object, event: object) -> None:
        heard.append(event)

    with bus.metrics.muted():
        bus.emit(SAMPLE)
    assert sink.seen == []
    with bus.metrics.connected_to(receiver):
        bus.emit(SAMPLE)
    assert sink.seen == heard == [SAMPLE]
    (dispatcher,) = bus.metrics.receivers_for(bus)
    bus.metrics.disconnect(dispatcher)
    bus.metrics.connect(receiver)
    bus.emit(SAMPLE)
    assert (len(sink.seen), len(heard)) == (1, 2)


# No receivers


def test_silence_is_reported_once_on_rank_0(
    bus: Bus, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Metrics that no sink gets cause one warning on rank 0, and none elsewhere. Other events cause none."""
    monkeypatch.delenv("RANK", raising=False)
    bus.emit(ConfigEvent({}))
    bus.emit(LifecycleEvent("started"))
    assert not caplog.records
    for _ in range(3):
        bus.emit(SAMPLE)
    (record,) = caplog.records
    assert "no run is started and no sink attached" in record.getMessage()
    caplog.clear()
    monkeypatch.setenv("RANK", "1")
    elsewhere = Bus()
    elsewhere.emit(SAMPLE)
    monkeypatch.delenv("RANK")
    silenced = Bus()
    silenced.silence()
    silenced.emit(SAMPLE)
    assert not caplog.records


# Signal handlers and threads


def test_postponed_events_come_before_the_next_one(bus: Bus) -> None:
    """A signal handler leaves its event. Whoever emits next, of any kind, delivers it first."""
    recorder = bus.attach(Recorder())
    terminating, second = LifecycleEvent("terminating", signal=15), LifecycleEvent("terminating", signal=10)
    bus.postpone(terminating)
    bus.postpone(second)
    assert recorder.seen == []
    bus.emit(SAMPLE)
    assert recorder.seen == [terminating, second, SAMPLE]
    bus.postpone(terminating)
    bus.deliver_postponed()
    assert recorder.seen[3:] == [terminating]


def test_a_sink_that_emits_is_not_caught_in_a_loop(bus: Bus) -> None:
    """An event emitted while one is delivered is delivered too, postponed ones once."""
    seen: list[Any] = []

    class Echo:
        def on_metrics(self, sample: MetricsSample) -> None:
            seen.append(sample.step)
            if sample.step:
                bus.emit(MetricsSample(sample.step - 1))

    bus.attach(Echo())
    bus.postpone(MetricsSample(1))
    bus.emit(MetricsSample(2))
    assert seen == [1, 0, 2, 1, 0]


def run_together(*functions: Any) -> None:
    """Run each in a thread of its own, from the same moment on. Raise what one of them raises."""
    barrier = threading.Barrier(len(functions))
    errors: list[BaseException] = []

    def guarded(function: Any) -> None:
        barrier.wait()
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_events_postponed_for_two_threads_arrive_once(bus: Bus) -> None:
    """Both find some waiting. Neither trips over the other's having taken the last one."""
    recorder = bus.attach(Recorder())

    def emit() -> None:
        for _ in range(2000):
            bus.postpone(SAMPLE)
            bus.deliver_postponed()

    run_together(emit, emit, emit)
    bus.deliver_postponed()
    assert len(recorder.seen) == 6000


def test_attaching_and_detaching_while_others_emit(bus: Bus) -> None:
    """A sink that stays misses nothing, and no emitting thread fails because of the change."""
    steady = bus.attach(Recorder())
    passing = [Recorder() for _ in range(3)]

    def emit() -> None:
        for step in range(1500):
            bus.emit(MetricsSample(step))

    def change() -> None:
        for _ in range(300):
            for sink in passing:
                bus.attach(sink)
            for sink in passing:
                bus.detach(sink)

    run_together(emit, emit, change, change)
    assert len(steady.seen) == 3000
    assert bus.sinks == (steady,)


def test_emitting_in_any_thread_reaches_plain_receivers(bus: Bus) -> None:
    """A receiver runs in the thread that emits."""
    heard: list[int] = []

    def receiver(_sender: object, event: object) -> None:
        heard.append(threading.get_ident())

    bus.metrics.connect(receiver)
    thread = threading.Thread(target=bus.emit, args=(SAMPLE,))
    thread.start()
    identity = thread.ident
    thread.join()
    bus.emit(SAMPLE)
    assert heard == [identity, threading.get_ident()]


class Stays(Faulty):
    stays_attached = True


def test_a_sink_that_stays_is_never_detached(bus: Bus) -> None:
    """However often it raises. Its errors are counted."""
    faulty = bus.attach(Stays())
    for _ in range(3 * FAULTS_BEFORE_DETACH):
        bus.emit(SAMPLE)
    assert bus.sinks == (faulty,)
    assert bus.faults(faulty) == 3 * FAULTS_BEFORE_DETACH


class Echo:
    """Emits what it is given."""

    def __init__(self, bus: Bus) -> None:
        self.bus, self.seen = bus, 0

    def on_metrics(self, sample: Any) -> None:
        self.seen += 1
        self.bus.emit(sample)


class Keeps(Recorder):
    emits_nothing = True


def test_a_sink_that_emits_what_it_is_given(bus: Bus, caplog: pytest.LogCaptureFixture) -> None:
    """Soon it no longer gets its own events. What keeps them has them all. That is logged once."""
    caplog.set_level(logging.INFO)
    kept, echo, other = bus.attach(Keeps()), bus.attach(Echo(bus)), bus.attach(Recorder())
    bus.emit(SAMPLE)
    assert len(kept.seen) == 4
    for _ in range(3):
        bus.emit(SAMPLE)
    assert echo.seen == 3 + 3
    assert len(kept.seen) == 4 + 6
    assert len(other.seen) == 3 + 6
    assert [record.getMessage().split(" logs")[0] for record in caplog.records] == ["the sink Echo"]


def test_sinks_and_receivers_that_answer_each_other_come_to_an_end(bus: Bus) -> None:
    """Several of them, plain blinker receivers among them, on any number of threads."""
    kept = bus.attach(Keeps())
    echoes = [bus.attach(Echo(bus)) for _ in range(4)]

    @bus.metrics.connect
    def answer(_sender: Any, event: Any) -> None:
        bus.emit(event)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(bus.emit, [SAMPLE] * 8))
    assert len(kept.seen) <= 8 * (1 + 5 + 5**2 + 5**3)
    assert all(echo.seen >= 8 for echo in echoes), "each emit reaches each sink"
    bus.emit(SAMPLE)
    assert bus._feedback._at_work == {}


def test_a_sink_is_called_again_after_ctrl_c_in_it(bus: Bus) -> None:
    """An interrupted handler is no longer at work."""
    calls: list[Any] = []

    def interrupted(sample: Any) -> None:
        calls.append(sample)
        raise KeyboardInterrupt

    bus.attach(interrupted)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            bus.emit(SAMPLE)
    assert len(calls) == 2
