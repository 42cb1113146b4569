from __future__ import annotations

import json
import math
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from pyarrow import parquet

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
from trackside.destinations.parquet.destination import ParquetDestination
from trackside.destinations.parquet.names import Part, cover, parts_of
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
) -> ParquetDestination:
    """A destination as the shipper has it after a start, or a restart with ``state``."""
    return begun(
        ParquetDestination(context(directory, journal_id=journal_id), **{"path": "points", **options}), state
    )


def tell_end(made: ParquetDestination, *, final: bool = True) -> None:
    """End the run."""
    made.write_end(RunEnd(status="FINISHED", reason="finished", final=final))
    if final:
        made.close()


def read(directory: Path) -> Any:
    """What pandas reads of the directory."""
    return pd.read_parquet(directory / "points")


def steps(directory: Path) -> list[int]:
    """The steps of all points, in the order of the files."""
    return list(read(directory)["step"])


def files(directory: Path) -> list[str]:
    """Everything in the directory, hidden files too, without the run's key."""
    return sorted(path.name.partition("-under-test-")[2] for path in (directory / "points").iterdir())


class TestContract(DestinationContract):
    """Parquet keeps to what every destination does."""

    def destination(self, context: DestinationContext) -> ParquetDestination:
        return ParquetDestination(context, path="points")

    def points(self, context: DestinationContext) -> Iterator[Point]:
        if list(context.path("points").iterdir()):
            found = pd.read_parquet(context.path("points"))
            yield from zip(found["name"], found["step"], found["value"], strict=True)


def test_points_are_read_back_by_pandas(tmp_path: Path):
    """A row a point, with types one can work with."""
    made = opened(tmp_path)
    made.write_metrics([metrics(5, epoch=1.5, größe=0.1, loss=1e300), metrics(6, prefix="val", loss=0.5)])
    tell_end(made)
    found = read(tmp_path)
    assert {name: str(found[name].dtype) for name in ("step", "epoch", "value")} == {
        "step": "int64",
        "epoch": "float64",
        "value": "float64",
    }
    assert {str(found[name].dtype) for name in ("run", "name")} == {"category"}
    assert str(found["timestamp"].dtype) == "datetime64[ms, UTC]"
    assert found[["step", "name", "value"]].to_numpy().tolist() == [
        [5, "größe", 0.1],
        [5, "loss", 1e300],
        [5, "epoch", 1.5],
        [6, "val/loss", 0.5],
    ]
    assert list(found["epoch"][:3]) == [1.5] * 3
    assert math.isnan(found["epoch"][3])
    assert set(found["run"]) == {"a run"}
    assert found["timestamp"][3] == pd.Timestamp(START_MS + 60, unit="ms", tz="UTC")


def test_nan_and_infinities(tmp_path: Path):
    """NaN is a value, not a missing one."""
    made = opened(tmp_path)
    made.write_metrics([metrics(1, a=math.nan, b=math.inf, c=-math.inf)])
    tell_end(made)
    column = parquet.read_table(tmp_path / "points")["value"]
    assert column.null_count == 0
    values = column.to_pylist()
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, -math.inf]


def test_the_files_say_what_they_are(tmp_path: Path):
    """Run, experiment and the configuration, the later additions to it too. Compressed with zstd."""
    made = opened(tmp_path)
    made.write_config(config({"lr": 0.1}))
    made.write_metrics(records(1))
    tell_end(made, final=False)
    made.write_config(config({"größe": {"depth": 3}}))
    tell_end(made)
    (path,) = (tmp_path / "points").iterdir()
    metadata = {k.decode(): v.decode() for k, v in parquet.read_schema(path).metadata.items()}
    assert json.loads(metadata["trackside.config"]) == {"lr": 0.1, "größe": {"depth": 3}}
    assert (metadata["trackside.run"], metadata["trackside.experiment"]) == ("a run", "digits")
    assert metadata["trackside.journal"] == "0" * 32
    assert parquet.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


def test_points_wait_for_others_but_not_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A part is made when there are enough, or when the first has waited long enough for the run's age."""
    now = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    monkeypatch.setattr(time, "time", lambda: START_MS / 1000 + now[0])
    made = opened(tmp_path, part_points=3, part_seconds=60.0)
    made.write_metrics(records(1, 2))
    made.idle()
    assert files(tmp_path) == []
    made.write_metrics(records(3, 4))
    made.idle()
    assert files(tmp_path) == ["000000000000-000000000004.parquet"]
    made.write_metrics(records(5))
    now[0] += 59
    made.idle()
    assert len(files(tmp_path)) == 1
    now[0] += 2
    made.idle()
    assert len(files(tmp_path)) == 2
    now[0] = 8000
    made.write_metrics(records(6))
    now[0] += 100
    made.idle()
    assert len(files(tmp_path)) == 2
    now[0] += 400
    made.idle()
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6]
    tell_end(made)
    assert files(tmp_path) == ["000000000000-000000000006.parquet"]
    assert steps(tmp_path) == [1, 2, 3, 4, 5, 6]


def test_parts_may_stay_as_they_are(tmp_path: Path):
    """For a run whose files are too large to be written twice."""
    made = opened(tmp_path, part_points=1, compact=False)
    for step in range(3):
        made.write_metrics(records(step))
        made.idle()
    tell_end(made)
    assert len(files(tmp_path)) == 3
    assert steps(tmp_path) == [0, 1, 2]


def test_the_tail_goes_when_its_part_is_there(tmp_path: Path):
    """What the journal's directory holds is bounded."""
    made = opened(tmp_path, part_points=1)
    for step in range(5):
        made.write_metrics(records(step))
        made.idle()
    assert len(list(context(tmp_path, journal_id="0" * 32).journal.glob("*.tail"))) == 1


def test_every_moment_of_a_run_can_be_gone_on_from(tmp_path: Path):
    """After each call the shipper dies. Whatever state was saved last, all is there once in the end."""
    for moment in range(16):
        directory = tmp_path / str(moment)
        directory.mkdir()
        made = opened(directory, part_points=3)
        saved: list[tuple[dict[str, Any], int]] = [(made.state(), 0)]
        for number in range(8):
            made.write_metrics(records(number))
            if moment == 2 * number:
                break
            saved.append((made.state(), number + 1))
            made.idle()
            if moment == 2 * number + 1:
                break
        state, first = saved[-1]
        again = opened(directory, state, part_points=3)
        for number in range(first, 9):
            again.write_metrics(records(number))
        tell_end(again)
        assert steps(directory) == list(range(9)), moment


def test_killed_while_the_parts_were_put_together(tmp_path: Path):
    """The long file and some short ones are there: the long one counts, and settling again is nothing."""
    made = opened(tmp_path, part_points=2)
    state: dict[str, Any] = {}
    for first in range(0, 8, 2):
        made.write_metrics(records(first, first + 1))
        state = made.state()
        made.idle()
    kept = {path: path.read_bytes() for path in sorted((tmp_path / "points").iterdir())[1:]}
    tell_end(made)
    for path, data in kept.items():
        path.write_bytes(data)
    (tmp_path / "points" / f".{'0' * 12}-under-test-x.parquet.abc").write_text("unfinished")
    tell_end(opened(tmp_path, state))
    assert files(tmp_path) == ["000000000000-000000000008.parquet"]
    assert steps(tmp_path) == list(range(8))


def test_a_state_that_could_not_be_saved_for_long(tmp_path: Path):
    """The disk was full for the cursor: parts that are ahead of it are cut, and what comes again is taken."""
    made = opened(tmp_path, part_points=2)
    made.write_metrics(records(0, 1, 2))
    state = made.state()
    made.write_metrics(records(3, 4))
    made.idle()
    made.write_metrics(records(5))
    tell_end(made)
    assert files(tmp_path) == ["000000000000-000000000006.parquet"]
    again = opened(tmp_path, state)
    assert steps(tmp_path) == [0, 1, 2]
    again.write_metrics(records(3, 4, 5, 6))
    tell_end(again)
    assert steps(tmp_path) == [0, 1, 2, 3, 4, 5, 6]


def test_removed_files_are_reported(tmp_path: Path):
    """What is gone is gone: it is said, and the rest continues."""
    made = opened(tmp_path, part_points=1)
    made.write_metrics(records(1))
    made.idle()
    state = made.state()
    for path in (tmp_path / "points").iterdir():
        path.unlink()
    said: list[str] = []
    base = context(tmp_path, journal_id="0" * 32)
    again = ParquetDestination(type(base)(base.name, base.meta, base.journal, said.append), path="points")
    again.restore(state)
    again.open()
    again.write_metrics(records(2))
    tell_end(again)
    assert steps(tmp_path) == [2]
    assert "1 points are missing" in said[0]


def test_two_runs_in_one_directory(tmp_path: Path):
    """Neither touches the other's files, and a reader gets both."""
    one, two = opened(tmp_path), opened(tmp_path, journal_id="f" * 32)
    one.write_metrics(records(1))
    two.write_metrics(records(2))
    tell_end(one)
    tell_end(two)
    assert sorted(steps(tmp_path)) == [1, 2]


def test_a_run_without_points_leaves_no_file(tmp_path: Path):
    """Not even with a configuration."""
    made = opened(tmp_path)
    made.write_config(config({"lr": 0.1}))
    tell_end(made)
    assert files(tmp_path) == []


def test_a_step_beyond_64_bits_is_rejected(tmp_path: Path):
    """The record alone is rejected, by the worker's bisection."""
    made = opened(tmp_path)
    with pytest.raises(RejectedError, match="64 bits"):
        made.write_metrics(records(1, 1 << 63))
    made.write_metrics(records(1))
    tell_end(made)
    assert steps(tmp_path) == [1]


KILLED = """
import json, sys
from pathlib import Path
from tests.destinations.test_parquet import opened, records
made = opened(Path(sys.argv[1]), part_points=200)
for first in range(0, 10_000_000, 50):
    print(json.dumps(made.state()))
    made.write_metrics(records(*range(first, first + 50)))
    made.idle()
"""


@pytest.mark.parametrize("then", [0.0, 0.02, 0.05])
def test_killed_in_the_middle(tmp_path: Path, then: float):
    """Whatever the last acknowledged state is, what was sent since then is there once."""
    said = run_and_kill(KILLED, tmp_path, lines=20, then=then)
    state = json.loads(said[-1])
    made = opened(tmp_path, state)
    made.write_metrics(records(*range(state["rows"], state["rows"] + 300)))
    tell_end(made)
    assert steps(tmp_path) == list(range(state["rows"] + 300))
    assert len(files(tmp_path)) == 1


def test_a_full_disk_is_waited_for(tmp_path: Path):
    """Nothing of the batch stays, and it is taken once there is room. So is a part."""
    made = opened(tmp_path, part_points=1)
    made.write_metrics(records(1))
    state = made.state()
    with file_size_limit(100):
        with pytest.raises(RetryableError, match=r"cannot be written: .*\. Make room"):
            made.write_metrics(records(*range(2, 50)))
        assert made.state() == state
        with pytest.raises(RetryableError, match=r"\.parquet cannot be written: .*\. Make room"):
            made.idle()
    made.write_metrics(records(2))
    assert files(tmp_path) == []
    tell_end(made)
    assert steps(tmp_path) == [1, 2]


def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path):
    """For good, and with a sentence that names it."""
    (tmp_path / "file").write_text("")
    with pytest.raises(DestinationFailedError, match=r"file cannot be written: .*\. Choose another place"):
        opened(tmp_path, path="file")


def test_a_missing_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`sync` may run where the package isn't. The message says what to type."""
    monkeypatch.delattr("trackside.destinations.parquet.files", raising=False)
    monkeypatch.delitem(sys.modules, "trackside.destinations.parquet.files", raising=False)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DestinationFailedError, match=r"pip install 'trackside\[parquet\]'"):
        opened(tmp_path)


def test_cover_takes_each_row_once():
    """The longest file that begins where the last one ended. Nothing behind what was acknowledged."""
    parts = [Part("k", *span) for span in [(0, 4), (4, 8), (0, 2), (2, 4), (8, 12)]]
    assert cover(parts, 8) == ([parts[0], parts[1]], None)
    assert cover(parts, 10) == ([parts[0], parts[1]], parts[4])
    assert cover(parts, 0) == ([], None)
    assert cover(parts[1:2], 8) == ([], None)


def test_part_names_are_read_back():
    """And files of other programs are not taken for ours."""
    part = Part("abc-parquet", 0, 12)
    assert parts_of("abc-parquet", [part.name, "abc-other-000000000000-000000000012.parquet", "x"]) == [part]


def test_runs_of_one_name_can_be_told_apart(tmp_path: Path):
    """By MLflow's id. Two attempts at one run by their journals. An id that comes late is in all rows."""
    known: list[RunInfo] = []
    for number, run_id in enumerate(("first", "second", "second")):
        known.clear()
        place = replace(
            context(tmp_path, journal_id=f"{number}" * 32), run=lambda: known[0] if known else None
        )
        made = ParquetDestination(place, "points")
        made.open()
        made.write_metrics(records(1, 2))
        tell_end(made, final=False)
        known.append(RunInfo(run_id, "0", "", None))
        made.write_metrics(records(3))
        tell_end(made)
    found = read(tmp_path)
    assert {str(found[name].dtype) for name in ("run", "run_id", "attempt", "experiment")} == {"category"}
    counts = found.groupby(["run", "run_id", "attempt", "experiment"], observed=True).size().to_dict()
    assert counts == {
        ("a run", "first", "journal-000000", "digits"): 3,
        ("a run", "second", "journal-111111", "digits"): 3,
        ("a run", "second", "journal-222222", "digits"): 3,
    }


def test_a_run_that_mlflow_never_named(tmp_path: Path):
    """Its id is null, and its points are those of an attempt all the same."""
    made = opened(tmp_path)
    made.write_metrics(records(1))
    tell_end(made)
    found = read(tmp_path)
    assert found["run_id"].isna().all()
    assert list(found["attempt"]) == ["journal-000000"]
