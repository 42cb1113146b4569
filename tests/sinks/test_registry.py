"""Sinks found by name: built in, installed beside us, or dotted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import OmegaConf

from tests.support.program import run_python
from trackside.errors import ConfigurationError
from trackside.sinks import ConsoleSink, MemorySink, PrometheusSink, TransformedSink, make_sink
from trackside.sinks.registry import known_sinks
from trackside.transform import Transform

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.events import MetricsSample


class Own:
    """A sink of the user's."""

    def __init__(self, path: str, limit: int = 3) -> None:
        if limit < 0:
            raise ValueError("limit is below 0")
        self.path, self.limit = path, limit

    def on_metrics(self, sample: MetricsSample) -> None:
        """Do nothing."""


def make_own(**options: Any) -> Own:
    """Make one: a function will do as well as a class."""
    return Own(**options)


def no_sink() -> object:
    """Make something else."""
    return object()


ready_made = MemorySink()


@pytest.mark.parametrize(
    ("name", "kind"), [("console", ConsoleSink), ("memory", MemorySink), ("prometheus", PrometheusSink)]
)
def test_the_built_in_ones(name: str, kind: type) -> None:
    """By a short name alone, or in a mapping."""
    assert type(make_sink(name)) is kind
    assert type(make_sink({"type": name})) is kind
    assert name in known_sinks()


def test_options_go_to_the_class() -> None:
    """From any kind of mapping."""
    sink = make_sink(OmegaConf.create({"type": "console", "every_seconds": 60}))
    assert sink.every_seconds == 60


@pytest.mark.parametrize("name", [f"{__name__}:Own", f"{__name__}.Own", f"{__name__}:make_own"])
def test_a_dotted_name(name: str) -> None:
    """Of a class, or of a function that returns a sink."""
    sink = make_sink({"type": name, "path": "x", "limit": 5})
    assert (sink.path, sink.limit) == ("x", 5)


def test_an_object_already_made() -> None:
    """By its dotted name, or as it is. It takes no options."""
    assert make_sink(f"{__name__}:ready_made") is ready_made
    assert make_sink(ready_made) is ready_made
    with pytest.raises(ConfigurationError, match="takes no options"):
        make_sink({"type": f"{__name__}:ready_made", "limit": 1})


def test_a_shape_puts_the_sink_behind_a_shaping() -> None:
    """Declared beside the options."""
    sink = make_sink({"type": "memory", "transform": {"include": ["train/*"], "every_n_steps": 10}})
    assert isinstance(sink, TransformedSink)
    assert isinstance(sink.sink, MemorySink)
    assert sink.transform == Transform(include=("train/*",), every_n_steps=10)


def test_on_a_rank_that_is_not_to_have_it_nothing_is_made() -> None:
    """Eight ranks can't serve on one port. A mistake is an error on every one of them all the same."""
    transformed = {"type": f"{__name__}:Own", "path": "x", "transform": {"ranks": [1, 2]}}
    assert [make_sink(transformed, rank) is not None for rank in range(4)] == [False, True, True, False]
    assert [make_sink("memory", rank) is not None for rank in range(3)] == [True, False, False]
    with pytest.raises(ConfigurationError, match="did you mean 'limit'"):
        make_sink({**transformed, "limt": 1}, rank=0)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("consol", "unknown sink 'consol'; did you mean 'console'. Known: console, memory, prometheus"),
        ("nothing", "unknown sink 'nothing'. Known: .*or a class of your own as package.module:Class"),
        ({"every_seconds": 5}, "a sink needs a type"),
        ({"type": 5}, "a sink needs a type"),
        ({"type": "console", "every_second": 5}, "'console': 'every_second'; did you mean 'every_seconds'"),
        ({"type": "memory", "limit": 5}, "unknown option of the sink 'memory': 'limit'"),
        ({"type": "console", "per_second": 0}, "per_second must be above 0"),
        ({"type": "console", "transform": {"inclde": "a"}}, "did you mean 'include'"),
        ("no_such_package.Sink", "can't be loaded .* ModuleNotFoundError: No module named 'no_such_package'"),
        (f"{__name__}:Missing", "can't be loaded .* AttributeError"),
        (":x", "unknown sink ':x'"),
        ("a..b", "unknown sink 'a..b'"),
        (f"{__name__}:Own", r"can't be made with the options \[\]: TypeError: .*path"),
        ({"type": f"{__name__}:Own", "path": "a", "limit": -1}, "ValueError: limit is below 0"),
        ({"type": f"{__name__}:make_own", "path": "a", "x": 1}, r"the options \['path', 'x'\]: TypeError"),
        (f"{__name__}:no_sink", "is not a sink"),
        (f"{__name__}:pytest", "is not a sink"),
        (5, "5 is not a sink"),
    ],
)
def test_mistakes_are_errors_that_name_the_sink(spec: Any, message: str) -> None:
    """And what is known, or the nearest, or why not."""
    with pytest.raises(ConfigurationError, match=message):
        make_sink(spec)


def test_what_others_have_installed(tmp_path: Path) -> None:
    """A distribution that names an entry point is found by it. It can't take the place of ours."""
    (tmp_path / "shouting.py").write_text(
        "class Shout:\n"
        "    def __init__(self, times=1):\n        self.times = times\n"
        "    def on_metrics(self, sample):\n        print('LOSS!' * self.times)\n"
    )
    info = tmp_path / "shouting-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: shouting\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[trackside.sinks]\nshout = shouting:Shout\nconsole = shouting:Shout\nbroken = shouting:Nothing\n"
    )
    script = f"""
import sys
sys.path.insert(0, {str(tmp_path)!r})
from trackside.errors import ConfigurationError
from trackside.sinks import make_sink
from trackside.sinks.registry import known_sinks
print(known_sinks())
make_sink({{"type": "shout", "times": 2}}).on_metrics(None)
print(type(make_sink("console")).__name__)
for wrong in ("shot", "broken", {{"type": "shout", "time": 2}}):
    try:
        make_sink(wrong)
    except ConfigurationError as error:
        print(error)
"""
    done = run_python("-c", script)
    assert done.stderr == ""
    names, shouted, console, unknown, broken, option = done.stdout.splitlines()
    assert names == "['broken', 'console', 'memory', 'prometheus', 'shout']"
    assert shouted == "LOSS!LOSS!"
    assert console == "ConsoleSink"
    assert "unknown sink 'shot'; did you mean 'shout'?" in unknown
    assert "sink 'broken' can't be loaded from 'shouting:Nothing'" in broken
    assert "unknown option of the sink 'shout': 'time'; did you mean 'times'?" in option
