"""The Prometheus sink, scraped over HTTP and read by Prometheus's own parser."""

from __future__ import annotations

import math
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from tests.support.program import run_python
from trackside.errors import ConfigurationError
from trackside.event_bus.bus import Bus
from trackside.events import MetricsSample
from trackside.sinks import PrometheusSink

Key = tuple[str, tuple[tuple[str, str], ...]]


def scrape(sink: PrometheusSink) -> dict[Key, float]:
    """What Prometheus would read: values by name and labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=10) as answer:
        text = answer.read().decode()
    families = list(text_string_to_metric_families(text))
    assert {family.type for family in families} <= {"gauge"}
    assert len({family.name for family in families}) == len(families)
    samples = [sample for family in families for sample in family.samples]
    found = {(sample.name, tuple(sorted(sample.labels.items()))): sample.value for sample in samples}
    assert len(found) == len(samples)
    return found


def named(name: str, metric: str) -> Key:
    """The key of a metric's gauge."""
    return name, (("name", metric),)


@pytest.fixture
def sink() -> Any:
    """A sink served on a free port."""
    sink = PrometheusSink(port=0)
    yield sink
    sink.close()


def test_the_latest_values_are_scraped(sink: PrometheusSink) -> None:
    """A gauge each, with step and time beside them."""
    bus = Bus()
    bus.attach(sink)
    assert scrape(sink) == {}
    bus.emit(MetricsSample(6, 0.5, {"loss": 0.75}, "train", timestamp_ms=1_700_000_000_000))
    bus.emit(MetricsSample(7, 0.5, {"loss": 0.5, "lr": 1e-5}, "train", timestamp_ms=1_700_000_000_500))
    bus.emit(MetricsSample(7, None, {"loss": math.nan}, "val", timestamp_ms=1_700_000_001_000))
    found = scrape(sink)
    assert math.isnan(found.pop(named("trackside_val_loss", "val/loss")))
    assert found == {
        ("trackside_step", ()): 7,
        ("trackside_timestamp_seconds", ()): 1_700_000_001,
        named("trackside_epoch", "epoch"): 0.5,
        named("trackside_train_loss", "train/loss"): 0.5,
        named("trackside_train_lr", "train/lr"): 1e-5,
    }


def test_names_that_look_alike_stay_apart(sink: PrometheusSink) -> None:
    """The label has the name as it was. No metric can take the names of the sink's own gauges."""
    names = ["train/loss", "train_loss", "train loss", "größe", "1st", "step", "step/metric", 'a"b\\c\n', ""]
    sink.on_metrics(MetricsSample(3, metrics={name: number for number, name in enumerate(names)}))
    found = scrape(sink)
    labelled = {dict(labels)["name"]: value for (_, labels), value in found.items() if labels}
    assert labelled == {name: number for number, name in enumerate(names)}
    assert found["trackside_step", ()] == 3
    assert {key[0] for key in found} >= {"trackside_train_loss", "trackside_gr__e", "trackside_1st"}


def test_what_is_no_number_is_left_out(sink: PrometheusSink) -> None:
    """An invalid step, a text for a metric, a name that can't be encoded: the rest is there."""
    sink.on_metrics(MetricsSample("x", metrics={"loss": 0.5, "note": "text", "\ud800": 1.0}))
    found = scrape(sink)
    assert found[named("trackside_loss", "loss")] == 0.5
    assert len(found) == 3
    assert ("trackside_step", ()) not in found


def test_labels_and_namespace() -> None:
    """Of one's own, on every gauge."""
    sink = PrometheusSink(port=0, namespace="digits", labels={"rank": "1"})
    sink.on_metrics(MetricsSample(3, metrics={"loss": 0.5}))
    found = scrape(sink)
    sink.close()
    assert found["digits_step", (("rank", "1"),)] == 3
    assert found["digits_loss", (("name", "loss"), ("rank", "1"))] == 0.5


def test_a_registry_of_ones_own() -> None:
    """Without a port the gauges are in the registry and nowhere else. Closing takes them out."""
    registry = CollectorRegistry(auto_describe=True)
    sink = PrometheusSink(registry=registry)
    assert sink.port is None
    sink.on_metrics(MetricsSample(3, metrics={"loss": 0.5}))
    assert registry.get_sample_value("trackside_loss", {"name": "loss"}) == 0.5
    sink.close()
    sink.close()
    assert list(registry.collect()) == []


def test_closing_frees_the_port() -> None:
    """A sweep's next run may have it."""
    sink = PrometheusSink(port=0)
    port = sink.port
    assert port is not None
    sink.close()
    again = PrometheusSink(port=port)
    assert again.port == port
    again.close()
    with pytest.raises(urllib.error.URLError):
        scrape(again)


def test_a_port_that_is_taken_is_an_error_that_names_it() -> None:
    """At once, not at the first scrape. So is an invalid one."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(ConfigurationError, match=rf"can't serve on 127.0.0.1:{taken.getsockname()[1]}"):
            PrometheusSink(port=taken.getsockname()[1])
    with pytest.raises(ConfigurationError, match=r"can't serve on 127\.0\.0\.1:70000"):
        PrometheusSink(port=70_000)


@pytest.mark.parametrize(
    "options",
    [{"namespace": ""}, {"namespace": "a-b"}, {"labels": {"a b": "1"}}, {"labels": {"name": "1"}}],
)
def test_names_prometheus_refuses_are_refused(options: dict[str, Any]) -> None:
    """When the sink is made."""
    with pytest.raises(ConfigurationError, match=r"namespace|labels"):
        PrometheusSink(**options)


def test_scraping_while_the_training_logs_new_names(sink: PrometheusSink) -> None:
    """The scraping thread reads a copy: nothing changes under it."""
    stop = threading.Event()

    def log() -> None:
        step = 0
        while not stop.is_set():
            step += 1
            sink.on_metrics(MetricsSample(step, metrics={f"m{step % 500}": step}))

    thread = threading.Thread(target=log)
    thread.start()
    try:
        for _ in range(20):
            scrape(sink)
    finally:
        stop.set()
        thread.join()


def test_a_missing_package_names_the_extra() -> None:
    """And so does the registry of sinks."""
    script = """
import sys
sys.modules["prometheus_client"] = None
from trackside.errors import ConfigurationError
from trackside.sinks import PrometheusSink, make_sink
for make in (PrometheusSink, lambda: make_sink("prometheus")):
    try:
        make()
    except ConfigurationError as error:
        print(error)
"""
    done = run_python("-c", script, check=True)
    first, second = done.stdout.splitlines()
    assert first == second
    assert first.startswith("PrometheusSink needs a package")
    assert first.endswith("pip install 'trackside[prometheus]'")


def test_a_forked_child_does_not_hold_the_port() -> None:
    """A DataLoader worker that outlives the sink must not keep the next run from its port."""
    script = """
import os, signal
from trackside.sinks import PrometheusSink
sink = PrometheusSink(port=0)
child = os.fork()
if child == 0:
    signal.pause()
port = sink.port
sink.close()
again = PrometheusSink(port=port)
print("bound", again.port == port)
os.kill(child, signal.SIGKILL)
os.waitpid(child, 0)
"""
    done = run_python("-W", "ignore", "-c", script)
    assert (done.stdout, done.stderr) == ("bound True\n", "")


def test_the_port_is_free_at_once_though_a_child_holds_the_socket() -> None:
    """A child that has not come to its fork hooks yet, or never runs any, still has the socket."""
    sink = PrometheusSink(port=0)
    assert sink._server is not None
    child = subprocess.Popen(["sleep", "60"], pass_fds=[sink._server._listener.fileno()])
    try:
        sink.close()
        again = PrometheusSink(port=sink.port)
        assert again.port == sink.port
        again.close()
    finally:
        child.kill()
        child.wait()


def test_a_program_that_closes_every_descriptor() -> None:
    """The port is served again, without a busy thread. The program's own files and sockets are left alone."""
    script = """
import os, socket, time, urllib.request
from trackside.events import MetricsSample
from trackside.sinks import PrometheusSink
sink = PrometheusSink(port=0)
sink.on_metrics(MetricsSample(3, metrics={"loss": 0.5}))
os.closerange(3, 4096)
listener = socket.create_server(("127.0.0.1", 0))  # it may get the sink's number
listener.settimeout(20)
users = [os.dup2(listener.fileno(), number) for number in range(512, 520)]
users += [os.open("/dev/zero", os.O_RDWR) for _ in range(20)]
for _ in range(5):
    with socket.create_connection(listener.getsockname()), listener.accept()[0]:
        pass
before = time.process_time()
time.sleep(1.5)
print("busy" if time.process_time() - before > 0.1 else "idle")
print(b"trackside_loss" in urllib.request.urlopen(f"http://127.0.0.1:{sink.port}/metrics", timeout=20).read())
sink.close()
for number in users:
    os.fstat(number)
print(listener.fileno() == os.dup2(listener.fileno(), listener.fileno()))
"""
    done = run_python("-c", script)
    assert (done.stdout, done.stderr) == ("idle\nTrue\nTrue\n", "")
