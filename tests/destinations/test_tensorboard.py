from __future__ import annotations

import math
import os
import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata as hparams_metadata

from tests.destinations.tools import (
    START_MS,
    begun,
    config,
    context,
    file_size_limit,
    metrics,
    records,
    run_and_kill,
)
from trackside.destinations.tensorboard.destination import TensorBoardDestination, as_markdown, flat_numbers
from trackside.errors import DestinationFailedError, RejectedError, RetryableError
from trackside.events import RunEnd
from trackside.journal.meta import RunInfo
from trackside.testing.destinations import DestinationContract, Point

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.destinations.context import DestinationContext


def opened(
    directory: Path, state: dict[str, Any] | None = None, *, journal_id: str = "0" * 32, **options: Any
) -> TensorBoardDestination:
    """A destination as the shipper has it after a start, or a restart with ``state``."""
    return begun(
        TensorBoardDestination(context(directory, journal_id=journal_id), **{"log_dir": "runs", **options}),
        state,
    )


def read(directory: Path) -> EventAccumulator:
    """What TensorBoard sees there."""
    accumulator = EventAccumulator(str(directory), size_guidance={"scalars": 0, "tensors": 0})
    accumulator.Reload()
    return accumulator


def steps(directory: Path, tag: str = "loss", folder: str = "runs") -> list[int]:
    """The steps of a scalar, in the order of the file."""
    return [event.step for event in read(directory / folder).Scalars(tag)]


def tell_end(made: TensorBoardDestination, status: Any = "FINISHED", *, final: bool = True) -> None:
    """End the run five seconds after its start."""
    made.write_end(RunEnd(status=status, reason="why", final=final, ended_ms=START_MS + 5000))


class TestContract(DestinationContract):
    """Event files keep to what every destination does."""

    def destination(self, context: DestinationContext) -> TensorBoardDestination:
        return TensorBoardDestination(context, log_dir="runs")

    def points(self, context: DestinationContext) -> Iterator[Point]:
        found = read(context.path("runs"))
        for name in found.Tags()["scalars"]:
            yield from ((name, point.step, point.value) for point in found.Scalars(name))

    def stored(self, value: float) -> float:
        with np.errstate(over="ignore"):
            return float(np.float32(value))


def test_points_are_read_back_by_tensorboard(tmp_path: Path):
    """Value, step and the time of the emit. Prefixes, epochs and any name."""
    made = opened(tmp_path)
    made.write_metrics([metrics(5, epoch=1.0, loss=0.25, größe=1.5), metrics(6, prefix="val", loss=0.5)])
    tell_end(made)
    made.close()
    found = read(tmp_path / "runs")
    assert sorted(found.Tags()["scalars"]) == ["epoch", "größe", "loss", "val/loss"]
    (point,) = found.Scalars("loss")
    assert (point.wall_time, point.step, point.value) == (START_MS / 1000 + 0.05, 5, 0.25)
    assert [(p.step, p.value) for p in found.Scalars("val/loss")] == [(6, 0.5)]
    assert found.Scalars("epoch")[0].value == 1.0
    assert found.file_version == 2.0
    assert found.FirstEventTimestamp() == START_MS / 1000


def test_a_step_beyond_64_bits_is_rejected(tmp_path: Path):
    """The record alone is rejected, by the worker's bisection."""
    made = opened(tmp_path)
    with pytest.raises(RejectedError, match="cannot hold it"):
        made.write_metrics(records(1, 1 << 63))
    made.write_metrics(records(1))
    assert steps(tmp_path) == [1]


def test_the_configuration_is_in_both_tabs(tmp_path: Path):
    """Numbers as numbers, so that the HParams tab can plot by them. The whole of it as text."""
    made = opened(tmp_path)
    document = {
        "lr": 0.1,
        "model": {"depth": 3, "norm": {"eps": math.inf}},
        "amp": True,
        "opt": "sgd",
        "n": None,
    }
    made.write_config(config({**document, "betas": [0.9, 0.99], "empty": {}}))
    made.write_config(config({"later": 1}))
    made.write_metrics(records(1))
    tell_end(made, "KILLED", final=False)
    tell_end(made)
    found = read(tmp_path / "runs")
    start = hparams_metadata.parse_session_start_info_plugin_data(
        found.SummaryMetadata(hparams_metadata.SESSION_START_INFO_TAG).plugin_data.content
    )
    values = {name: getattr(value, value.WhichOneof("kind")) for name, value in start.hparams.items()}
    assert values == {
        "lr": 0.1,
        "model.depth": 3,
        "model.norm.eps": "Infinity",
        "amp": True,
        "opt": "sgd",
        "n": "null",
        "betas": "[0.9, 0.99]",
        "empty": "{}",
    }
    assert (start.group_name, start.start_time_secs) == ("a run", START_MS / 1000)
    end = hparams_metadata.parse_session_end_info_plugin_data(
        found.SummaryMetadata(hparams_metadata.SESSION_END_INFO_TAG).plugin_data.content
    )
    assert (end.status, end.end_time_secs) == (1, START_MS / 1000 + 5)
    texts = [event.tensor_proto.string_val[0].decode() for event in found.Tensors("config")]
    assert len(texts) == 2
    assert '    "lr": 0.1,\n' in texts[0]
    assert texts[1] == as_markdown({"later": 1})


@pytest.mark.parametrize("status", ["FAILED", "KILLED"])
def test_a_run_that_did_not_finish_is_a_failure(tmp_path: Path, status: str):
    """TensorBoard knows success and failure."""
    made = opened(tmp_path)
    made.write_config(config({"lr": 1}))
    tell_end(made, status)
    content = read(tmp_path / "runs").SummaryMetadata(hparams_metadata.SESSION_END_INFO_TAG)
    assert hparams_metadata.parse_session_end_info_plugin_data(content.plugin_data.content).status == 2


def test_flat_names_do_not_end_at_a_level():
    """However deep, each value has a column."""
    assert flat_numbers({"a": {"b": {"c": {"d": 1}}}, "x": float("nan")}) == {"a.b.c.d": 1, "x": "NaN"}


def test_an_attempts_file_names_time_and_host(tmp_path: Path):
    """As TensorBoard's own writer does."""
    made = opened(tmp_path)
    (path,) = (tmp_path / "runs").iterdir()
    assert path.name.startswith("events.out.tfevents.1700000000.test-host.")
    made.close()


def test_a_file_that_was_cut_is_left_and_another_begun(tmp_path: Path):
    """What is acknowledged does not come again: what is left of it must stay readable."""
    made = opened(tmp_path)
    made.write_metrics(records(1, 2))
    state = made.state()
    (path,) = (tmp_path / "runs").iterdir()
    os.truncate(path, path.stat().st_size - 5)
    again = opened(tmp_path, state)
    again.write_metrics(records(3))
    opened(tmp_path, again.state()).write_metrics(records(4))
    assert steps(tmp_path) == [1, 3, 4]


def test_the_next_attempt_adds_a_file(tmp_path: Path):
    """A resumed run continues in the same directory. The attempts cannot disturb each other."""
    opened(tmp_path).write_metrics(records(1))
    opened(tmp_path, journal_id="f" * 32).write_metrics(records(2))
    assert sorted(steps(tmp_path)) == [1, 2]


KILLED = """
import sys
from pathlib import Path
from tests.destinations.test_tensorboard import opened, records
made = opened(Path(sys.argv[1]))
for first in range(0, 10_000_000, 50):
    print(made.state()["end"], first)
    made.write_metrics(records(*range(first, first + 50)))
"""


@pytest.mark.parametrize("then", [0.0, 0.05])
def test_killed_in_the_middle(tmp_path: Path, then: float):
    """Whatever the last acknowledged state is, what was sent since then is there once."""
    said = run_and_kill(KILLED, tmp_path, lines=20, then=then)
    for acknowledged in (said[-1], said[-2], said[len(said) // 2]):
        end, first = map(int, acknowledged.split())
        made = opened(tmp_path, {"file": 0, "end": end, "hparams": False})
        made.write_metrics(records(*range(first, first + 300)))
        assert steps(tmp_path) == list(range(first + 300))


def test_a_full_disk_is_waited_for(tmp_path: Path):
    """Nothing of the batch stays, and it is taken once there is room."""
    made = opened(tmp_path)
    made.write_metrics(records(1))
    state = made.state()
    with file_size_limit(200), pytest.raises(RetryableError, match=r"cannot be written: .*\. Make room"):
        made.write_metrics(records(*range(2, 50)))
    assert made.state() == state
    made.write_metrics(records(2))
    assert steps(tmp_path) == [1, 2]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path):
    """For good, and with a sentence that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationFailedError, match=r"file/.* cannot be written: .*\. Choose another place"):
        opened(tmp_path, log_dir="file")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`sync` may run where the package isn't. The message says what to type."""
    monkeypatch.delitem(sys.modules, "trackside.destinations.tensorboard.events", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard.compat.proto", None)
    with pytest.raises(DestinationFailedError, match=r"pip install 'trackside\[tensorboard\]'"):
        opened(tmp_path)


def attempt(directory: Path, journal_id: str, run_id: str | None, **more: Any) -> Path:
    """The default directory of an attempt at that MLflow run, with a point in it."""
    info = None if run_id is None else RunInfo(run_id, "0", "", None, name="bold-fox-1")
    made = TensorBoardDestination(
        replace(context(directory, journal_id=journal_id, **more), run=lambda: info)
    )
    made.open()
    made.write_metrics(records(1))
    state = made.state()
    made.close()
    again = TensorBoardDestination(context(directory, journal_id=journal_id, **more))
    again.restore(state)
    again.open()  # a new shipper, before it knows of the run
    again.write_metrics(records(2))
    again.close()
    (path,) = directory.rglob(f"*{journal_id}*.0")
    assert max(steps(path.parent.parent, folder=path.parent.name)) == 2
    return path.parent.relative_to(directory)


def test_two_runs_of_one_name_are_two_curves(tmp_path: Path):
    """A directory each, and one for the attempts at one run. A restarted shipper continues where it was."""
    first = attempt(tmp_path, "a" * 32, "1" * 32)
    assert str(first) == "runs/digits/a run-11111111"
    assert attempt(tmp_path, "b" * 32, "1" * 32) == first
    assert str(attempt(tmp_path, "c" * 32, "2" * 32)) == "runs/digits/a run-22222222"


def test_a_run_without_a_name_or_an_id(tmp_path: Path):
    """The name is MLflow's. Without an answer of MLflow's, and on other ranks, the journal stands in."""
    assert str(attempt(tmp_path, "a" * 32, "1" * 32, run_name=None)) == "runs/digits/bold-fox-1-11111111"
    assert str(attempt(tmp_path, "b" * 32, None)) == "runs/digits/a run-bbbbbbbb"
    assert str(attempt(tmp_path, "c" * 32, None, run_name=None)) == "runs/digits/journal-cccccc"
    assert str(attempt(tmp_path, "d" * 32, None, rank=1)) == "runs/digits/a run-dddddddd/rank-1"
