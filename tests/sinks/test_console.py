"""The console sink: on a real terminal, in a real pipe, beside progress bars, at the end."""

from __future__ import annotations

import fcntl
import importlib.util
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import Any

import pytest
from rich.console import Console

from tests.support.program import run_python
from trackside.errors import ConfigurationError
from trackside.event_bus.bus import Bus
from trackside.events import LifecycleEvent, MetricsSample
from trackside.sinks import ConsoleSink

HEAD = """
import sys, time
from trackside import LifecycleEvent, MetricsSample
from trackside.event_bus.bus import Bus
from trackside.sinks import ConsoleSink
bus = Bus()
def emit(step, **metrics):
    bus.emit(MetricsSample(step, 0, metrics, "train"))
"""
ANSI = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
NO_RANK = {"RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK", "CI", "NO_COLOR", "FORCE_COLOR"}


def environment(**more: str) -> dict[str, str]:
    """The environment of a user at a terminal."""
    # The size: pytest-xdist sets it for its workers, and it comes before the terminal's own.
    unwanted = {*NO_RANK, "COLUMNS", "LINES"}
    kept = {name: value for name, value in os.environ.items() if name not in unwanted}
    return {**kept, "TERM": "xterm-256color", "PYTHONUTF8": "1", **more}


def on_terminal(script: str, columns: int = 80, **more: str) -> str:
    """What a script writes to a terminal of its own."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", HEAD + script],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment(**more),
    )
    os.close(theirs)
    written = b""
    while True:
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # Linux's way to say that the other end is closed
            break
        if not chunk:
            break
        written += chunk
    os.close(ours)
    assert process.wait(60) == 0, written.decode()
    return written.decode()


def in_pipe(script: str, **more: str) -> list[str]:
    """The lines a script writes to stderr into a pipe."""
    done = run_python("-c", HEAD + script, env=environment(**more))
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    return done.stderr.splitlines()


def seen(written: str) -> list[str]:
    """The lines as they stand on the screen in the end: what was erased is gone."""
    text = ANSI.sub("", written.replace("\x1b[2K", "\0")).replace("\r\n", "\n")
    return [line.rpartition("\0")[2].strip("\r") for line in text.split("\n")]


# On a terminal


@pytest.mark.wheel
def test_a_terminal_gets_one_live_line() -> None:
    """Drawn over and over, left standing at the end, with the cursor on the next line."""
    script = """
sink = bus.attach(ConsoleSink(per_second=1e6))
for step in range(20):
    emit(step, loss=1 / (step + 1), lr=1e-5)
sink.close()
sink.close()
print("after")
"""
    written = on_terminal(script)
    assert written.count("\x1b[2K") == 20
    assert seen(written) == ["step 19  epoch 0  train/loss 0.05  train/lr 1e-05", "after", ""]


def test_the_live_line_is_drawn_so_many_times_a_second() -> None:
    """However many samples come. The last values are shown all the same."""
    script = """
sink = bus.attach(ConsoleSink(per_second=0.001))
for step in range(5000):
    emit(step, loss=step)
sink.close()
"""
    written = on_terminal(script)
    assert written.count("\x1b[2K") == 2
    assert seen(written) == ["step 4999  epoch 0  train/loss 4999", ""]


def test_a_long_line_is_cut_to_the_terminals_width() -> None:
    """One that wrapped could not be drawn over."""
    script = """
sink = bus.attach(ConsoleSink())
emit(1, **{f"metric{number}": number for number in range(50)})
sink.close()
"""
    (line, rest) = seen(on_terminal(script, columns=40))
    assert line.startswith("step 1  epoch 0  train/metric0 0")
    assert len(line) == 39
    assert rest == ""


def test_a_traceback_begins_on_a_line_of_its_own() -> None:
    """What comes behind the last event does not stick to the live line."""
    script = """
bus.attach(ConsoleSink(per_second=1e6))
emit(1, loss=0.5)
bus.emit(LifecycleEvent("crashed"))
print("Traceback")
emit(2, loss=0.4)
bus.emit(LifecycleEvent("exited"))
"""
    lines = seen(on_terminal(script))
    assert lines == ["step 1  epoch 0  train/loss 0.5", "Traceback", "step 2  epoch 0  train/loss 0.4", ""]


@pytest.mark.parametrize("variable", [{"TERM": "dumb"}, {"CI": "true"}])
def test_no_line_is_drawn_over_where_that_does_not_work(variable: dict[str, Any]) -> None:
    """An editor's pane and CI's log show whole lines."""
    script = "sink = bus.attach(ConsoleSink())\nemit(1, loss=1)\nemit(2, loss=2)\nsink.close()"
    written = on_terminal(script, **variable)
    assert "\x1b[2K" not in written
    assert seen(written) == ["step 1  epoch 0  train/loss 1", "step 2  epoch 0  train/loss 2", ""]


def test_what_is_logged_as_a_file_is_said_above_the_live_line() -> None:
    """The live line is drawn again below it. What the bar of a terminal has shown stays whole."""
    script = """
sink = bus.attach(ConsoleSink(per_second=1e6))
emit(1, loss=0.5)
bus.log_checkpoint("/somewhere/last.pt", step=1)
emit(2, loss=0.4)
sink.close()
"""
    lines = seen(on_terminal(script))
    assert lines == ["logged  checkpoint last.pt step 1", "step 2  epoch 0  train/loss 0.4", ""]


def test_files_that_come_soon_after_each_other_share_a_line() -> None:
    """The first is said at once. The others are counted by kind, and the last line comes at the end."""
    script = """
bus.attach(ConsoleSink(every_seconds=3600))
for step in range(1000):
    bus.log_image(None, key="samples", step=step)
bus.log_text("hello", "notes/first.txt")
bus.log_dataset(None)
bus.log_artifact("/somewhere/data.csv", "tables")
bus.sinks[0].close()
bus.sinks[0].close()
"""
    assert in_pipe(script) == [
        "logged  image samples step 0",
        "logged  999x image samples step 999  text notes/first.txt  dataset   file tables/data.csv",
    ]


# Beside progress bars


def test_a_rich_progress_bar_stays_whole() -> None:
    """Lines go above the bar, through the console that draws it."""
    script = """
from rich.progress import Progress
sink = bus.attach(ConsoleSink(per_second=1e6, every_seconds=0))
emit(0, loss=1.0)
with Progress() as progress:
    task = progress.add_task("epoch", total=2)
    for step in (1, 2):
        emit(step, loss=1 / step)
        progress.advance(task)
emit(3, loss=0.1)
sink.close()
"""
    lines = [line for line in seen(on_terminal(script)) if line]
    assert lines[:2] == ["step 1  epoch 0  train/loss 1", "step 2  epoch 0  train/loss 0.5"]
    assert lines[2].startswith("epoch ")
    assert "100%" in lines[2]
    assert lines[3:] == ["step 3  epoch 0  train/loss 0.1"]


@pytest.mark.skipif(importlib.util.find_spec("tqdm") is None, reason="tqdm is not installed")
def test_a_tqdm_bar_stays_whole() -> None:
    """Lines go above the bar, by tqdm's own means."""
    script = """
import tqdm
sink = bus.attach(ConsoleSink(per_second=1e6, every_seconds=0))
for step in tqdm.tqdm(range(3)):
    emit(step, loss=step)
sink.close()
"""
    lines = [line.split("\r")[-1] for line in seen(on_terminal(script)) if line]
    assert [line.rstrip() for line in lines[:3]] == [f"step {n}  epoch 0  train/loss {n}" for n in range(3)]
    assert "100%" in lines[3]
    assert len(lines) == 4


# In a pipe


@pytest.mark.parametrize("variable", [{}, {"FORCE_COLOR": "1"}])
def test_a_pipe_gets_whole_lines_now_and_then(variable: dict[str, str]) -> None:
    """The first at once, the next after ``every_seconds``, the last at the end. None drawn over."""
    script = """
bus.attach(ConsoleSink(every_seconds=3600))
for step in range(2000):
    emit(step, loss=step / 1000)
bus.sinks[0].close()
"""
    lines = in_pipe(script, **variable)
    assert "\x1b[2K" not in "".join(lines)
    assert [ANSI.sub("", line) for line in lines] == [
        "step 0  epoch 0  train/loss 0",
        "step 1999  epoch 0  train/loss 1.999",
    ]


def test_a_line_in_a_pipe_is_not_wrapped() -> None:
    """However long it is: you may want to grep it."""
    script = """
bus.attach(ConsoleSink())
emit(1, **{f"metric{number}": number for number in range(100)})
"""
    (line,) = in_pipe(script)
    assert line.endswith("train/metric99 99")


def test_what_was_shown_is_not_shown_again() -> None:
    """One sample is one line, and no sample is no line."""
    assert in_pipe("bus.attach(ConsoleSink()).close()") == []
    script = "sink = bus.attach(ConsoleSink())\nemit(1, loss=1)\nsink.close()\nsink.close()"
    assert in_pipe(script) == ["step 1  epoch 0  train/loss 1"]


def test_other_ranks_are_silent() -> None:
    """As under torchrun, where all of them share one terminal. Rich is not even imported."""
    script = """
sink = bus.attach(ConsoleSink())
bus.emit(LifecycleEvent("started"))
emit(1, loss=1)
bus.log_text("hello", "hello.txt")
sink.close()
assert "rich" not in sys.modules
"""
    assert in_pipe(script, RANK="3", WORLD_SIZE="4") == []


def test_names_that_would_break_the_line_do_not() -> None:
    """Control characters, and what the stream can't encode, are replaced."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", newline="\n")
    sink = ConsoleSink(console=Console(file=stream))
    sink.on_metrics(MetricsSample(1, metrics={"a\x1b[2J\nb": 1.0, "größe": 2.0}))
    stream.seek(0)
    assert stream.read() == "step 1  a?[2J?b 1  gr??e 2\n"


def test_numbers_are_short() -> None:
    """Four digits, whole numbers whole, and NaN as it is."""
    stream = io.StringIO()
    values = {
        "a": 0.123456,
        "b": 123456,
        "c": 1e-7,
        "d": float("nan"),
        "e": 3.0,
        "f": float("-inf"),
        "g": True,
    }
    ConsoleSink(console=Console(file=stream)).on_metrics(MetricsSample(None, 1.5, values))
    wanted = "step ?  epoch 1.5  a 0.1235  b 123456  c 1e-07  d nan  e 3  f -inf  g 1\n"
    assert stream.getvalue() == wanted


def test_values_are_those_of_the_moment_they_were_logged() -> None:
    """A tensor changed in place afterwards shows as it was."""
    torch = pytest.importorskip("torch")
    stream = io.StringIO()
    sink = ConsoleSink(console=Console(file=stream), every_seconds=3600)
    loss = torch.ones((), requires_grad=True) * 2
    sink.on_metrics(MetricsSample(1, metrics={"loss": 1.0}))
    sink.on_metrics(MetricsSample(2, metrics={"loss": loss}))
    loss.data.fill_(9.0)
    sink.close()
    assert stream.getvalue().splitlines()[-1] == "step 2  loss 2"


@pytest.mark.parametrize(
    "options", [{"every_seconds": -1}, {"per_second": 0}, {"every_seconds": float("nan")}]
)
def test_intervals_that_are_none_are_refused(options: dict[str, Any]) -> None:
    """At once, by name."""
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        ConsoleSink(**options)


def test_a_closed_stream_is_the_sinks_own_trouble(caplog: pytest.LogCaptureFixture) -> None:
    """The bus reports it once and detaches the sink in the end. The loop continues."""
    stream = io.StringIO()
    bus = Bus()
    bus.attach(ConsoleSink(console=Console(file=stream), every_seconds=0, per_second=1e9))
    stream.close()
    for step in range(20):
        bus.emit(MetricsSample(step, metrics={"loss": 1.0}))
    bus.emit(LifecycleEvent("finished"))
    assert "ConsoleSink() failed" in caplog.text
    assert bus.sinks == ()
