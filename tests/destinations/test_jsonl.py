from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Any

import pytest

from tests.destinations.tools import (
    artifact,
    begun,
    config,
    context,
    file_size_limit,
    metrics,
    records,
    run_and_kill,
)
from trackside.destinations.jsonl import JSONLinesDestination
from trackside.errors import DestinationFailedError, RetryableError
from trackside.events import RunEnd
from trackside.journal.format import MetricsRecord
from trackside.testing.destinations import DestinationContract, Point

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.destinations.context import DestinationContext


def opened(
    directory: Path, state: dict[str, Any] | None = None, *, journal_id: str = "0" * 32, **options: Any
) -> JSONLinesDestination:
    """A destination as the shipper has it after a start, or a restart with ``state``."""
    return begun(
        JSONLinesDestination(context(directory, journal_id=journal_id), **{"path": "m.jsonl", **options}),
        state,
    )


def lines(path: Path) -> list[dict[str, Any]]:
    """What a user's two lines of Python read."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def steps(directory: Path) -> list[int]:
    """The steps of all lines, in their order."""
    return [line["step"] for line in lines(directory / "m.jsonl")]


class TestContract(DestinationContract):
    """JSON lines keep to what every destination does."""

    def destination(self, context: DestinationContext) -> JSONLinesDestination:
        return JSONLinesDestination(context, path="m.jsonl")

    def points(self, context: DestinationContext) -> Iterator[Point]:
        for line in lines(context.path("m.jsonl")):
            if isinstance(line.get("artifact"), dict):
                continue
            values = {key: line[key] for key in line.keys() - {"step", "timestamp"} if line[key] is not None}
            yield from ((name, line["step"], value) for name, value in values.items())


def test_the_first_line_is_found_by_the_note_of_a_development_version(tmp_path: Path):
    """Its shipper died between the first batch and its acknowledgement, and no state was kept."""
    (tmp_path / "m.jsonl").write_text('{"step": 0}\n')
    made = opened(tmp_path)
    note = made.context.journal / f"{made.name}-begin.json"
    note.write_text(json.dumps(made.state()["end"]))
    made.write_metrics(records(1, 2))
    again = opened(tmp_path)
    again.write_metrics(records(1, 2, 3))
    assert steps(tmp_path) == [0, 1, 2, 3]


def test_a_line_is_what_metric_logger_writes(tmp_path: Path):
    """Step, epoch, timestamp, then the metrics. UTF-8, not escaped. Epochs are counted in integers."""
    made = opened(tmp_path)
    made.write_config(config({"lr": 0.1}))
    made.write_metrics(
        [metrics(7, epoch=2.0, loss=0.5, größe=1e-7), metrics(8, epoch=2.5, prefix="val", a=1.0)]
    )
    made.write_end(RunEnd(status="FINISHED", reason="finished"))
    made.close()
    first, second = (tmp_path / "m.jsonl").read_text("utf-8").splitlines()
    assert first == (
        '{"step": 7, "epoch": 2, "timestamp": "2023-11-14T22:13:20.070Z", "loss": 0.5, "größe": 1e-07}'
    )
    assert second == '{"step": 8, "epoch": 2.5, "timestamp": "2023-11-14T22:13:20.080Z", "val/a": 1.0}'


def test_a_missing_epoch_is_null(tmp_path: Path):
    """As in MetricsSample.to_dict(): every line has the three keys."""
    opened(tmp_path).write_metrics([metrics(1, loss=1.0)])
    assert lines(tmp_path / "m.jsonl")[0]["epoch"] is None


def test_the_epoch_is_in_its_place_after_shaping_too(tmp_path: Path):
    """Transform makes it one of the metrics, and a metric may be called so."""
    opened(tmp_path).write_metrics(
        [metrics(1, loss=1.0, epoch=3.0), MetricsRecord(1, 0, 2, None, None, {"epoch": 4.0})]
    )
    assert [line["epoch"] for line in lines(tmp_path / "m.jsonl")] == [3, 4]
    assert '"epoch": 4,' in (tmp_path / "m.jsonl").read_text()


def test_strict_lines_are_read_by_everyone(tmp_path: Path):
    """JSON itself knows no NaN. Null stands for it when asked for."""
    opened(tmp_path, strict=True).write_metrics([metrics(1, a=math.nan, b=math.inf, c=2.0)])
    assert "NaN" not in (tmp_path / "m.jsonl").read_text()
    (line,) = lines(tmp_path / "m.jsonl")
    assert (line["a"], line["b"], line["c"]) == (None, None, 2.0)


def test_append_keeps_what_is_there(tmp_path: Path):
    """The next attempt of a run continues in the same file, also behind an unfinished line."""
    (tmp_path / "m.jsonl").write_text('{"step": 0}\n{"step": 1}')
    opened(tmp_path).write_metrics(records(2))
    assert steps(tmp_path) == [0, 1, 2]


def test_truncate_begins_anew_but_only_once(tmp_path: Path):
    """A restarted shipper continues, whether or not it had acknowledged anything."""
    (tmp_path / "m.jsonl").write_text('{"step": 0}\n')
    first = opened(tmp_path, mode="truncate")
    begun = first.state()
    first.write_metrics(records(1))
    made = opened(tmp_path, begun, mode="truncate")
    made.write_metrics(records(1))
    state = made.state()
    opened(tmp_path, state, mode="truncate").write_metrics(records(2))
    assert steps(tmp_path) == [1, 2]


def test_the_default_path_is_made(tmp_path: Path):
    """One file a journal, in a directory of its own."""
    made = JSONLinesDestination(context(tmp_path))
    made.open()
    made.write_metrics(records(1))
    (path,) = (tmp_path / "metrics").iterdir()
    assert path.name == f"{context(tmp_path).journal.name}.jsonl"


def test_the_first_batch_is_not_doubled_either(tmp_path: Path):
    """Nothing was acknowledged yet, and the file held other lines before."""
    (tmp_path / "m.jsonl").write_text('{"step": 0}\n')
    made = opened(tmp_path)
    begun = made.state()
    made.write_metrics(records(1, 2))
    opened(tmp_path, begun).write_metrics(records(1, 2, 3))
    assert steps(tmp_path) == [0, 1, 2, 3]


@pytest.mark.parametrize("torn", [1, 30, 80])
def test_an_unfinished_line_is_finished(tmp_path: Path, torn: int):
    """Wherever the kill cut it."""
    made = opened(tmp_path)
    made.write_metrics(records(1))
    state = made.state()
    end = (tmp_path / "m.jsonl").stat().st_size
    made.write_metrics(records(2, 3))
    os.truncate(tmp_path / "m.jsonl", end + torn)
    opened(tmp_path, state).write_metrics(records(2, 3))
    assert steps(tmp_path) == [1, 2, 3]


def test_lines_of_other_programs_are_left_alone(tmp_path: Path):
    """An old attempt is delivered by `trackside sync` after a newer one has written to the same file."""
    old = opened(tmp_path)
    old.write_metrics(records(1))
    state = old.state()
    old.write_metrics(records(2))
    opened(tmp_path, journal_id="f" * 32).write_metrics(records(10, 11))
    again = opened(tmp_path, state)
    again.write_metrics(records(2, 3))
    again.write_metrics(records(4))
    assert steps(tmp_path) == [1, 2, 10, 11, 3, 4]


def test_two_writers_at_once(tmp_path: Path):
    """Neither overwrites the other."""
    one, two = opened(tmp_path), opened(tmp_path, journal_id="f" * 32)
    for step in range(4):
        (one, two)[step % 2].write_metrics(records(step))
    assert steps(tmp_path) == [0, 1, 2, 3]


def test_a_file_that_was_moved_away_is_made_anew(tmp_path: Path):
    """As log rotation does, or a user who tidies up."""
    made = opened(tmp_path)
    made.write_metrics(records(1))
    (tmp_path / "m.jsonl").rename(tmp_path / "old.jsonl")
    made.write_metrics(records(2))
    state = made.state()
    assert steps(tmp_path) == [2]
    (tmp_path / "m.jsonl").unlink()
    opened(tmp_path, state).write_metrics(records(3))
    assert steps(tmp_path) == [3]


KILLED = """
import sys
from pathlib import Path
from tests.destinations.test_jsonl import opened, records
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
        made = opened(tmp_path, {"end": end})
        written = max(steps_in_whole_lines(tmp_path))
        made.write_metrics(records(*range(first, written + 100)))
        assert steps(tmp_path) == list(range(written + 100))


def steps_in_whole_lines(directory: Path) -> list[int]:
    """The steps, leaving out a line that was cut."""
    text = (directory / "m.jsonl").read_text("utf-8")
    return [json.loads(line)["step"] for line in text[: text.rfind("\n")].splitlines()]


def test_a_full_disk_is_waited_for(tmp_path: Path):
    """Nothing of the batch stays, nothing is acknowledged, and it is taken once there is room."""
    made = opened(tmp_path)
    made.write_metrics(records(1))
    state = made.state()
    with file_size_limit(200), pytest.raises(RetryableError, match=r"cannot be written: .*\. Make room"):
        made.write_metrics(records(*range(2, 50)))
    assert made.state() == state
    assert steps(tmp_path) == [1]
    made.write_metrics(records(2))
    assert steps(tmp_path) == [1, 2]


@pytest.mark.parametrize("path", ["file/below.jsonl", "directory", "x" * 300, "/proc/nothing/here.jsonl"])
def test_a_place_that_cannot_be_written_is_refused(tmp_path: Path, path: str):
    """For good, and with a sentence that names it."""
    (tmp_path / "file").write_text("")
    (tmp_path / "directory").mkdir()
    with pytest.raises(
        DestinationFailedError, match=r"cannot be written: .*\. Choose another place, or correct this one"
    ):
        opened(tmp_path, path=path)


def test_others_may_read_it(tmp_path: Path):
    """Metrics are for people, unlike the journal: the umask decides."""
    before = os.umask(0o022)
    try:
        opened(tmp_path, path="deep/down/m.jsonl")
    finally:
        os.umask(before)
    assert (tmp_path / "deep/down/m.jsonl").stat().st_mode & 0o777 == 0o644


def test_an_artifact_is_a_line_that_says_where_it_is(tmp_path: Path):
    """In its place among the samples, with the path that was logged. Secrets in that are masked."""
    made = opened(tmp_path)
    made.write_metrics(records(1))
    last = artifact("checkpoint", "last", tmp_path / "last.pt", step=2)
    made.write_artifact(last, tmp_path / "gone.pt")
    made.write_artifact(artifact("dataset", "digits", None), None)
    made.write_artifact(
        artifact("image", "samples", tmp_path / "token=hf_0123456789abcdefghijABCDEF", step=3), None
    )
    made.write_metrics(records(4))
    first, checkpoint, dataset, image, second = lines(tmp_path / "m.jsonl")
    assert (first["step"], second["step"]) == (1, 4)
    assert checkpoint == {
        "step": 2,
        "epoch": None,
        "timestamp": "2023-11-14T22:13:20.000Z",
        "artifact": {"kind": "checkpoint", "place": "last", "path": "/home/user/last.pt", "size": 1234},
    }
    assert (dataset["step"], dataset["artifact"]) == (
        None,
        {"kind": "dataset", "place": "digits", "path": None, "size": None},
    )
    assert "hf_0123456789abcdefghijABCDEF" not in json.dumps(image)


def test_an_artifact_that_arrives_twice_has_one_line(tmp_path: Path):
    """The shipper died before it was acknowledged."""
    made = opened(tmp_path)
    kept = made.state()
    record = artifact("text", "a.txt", tmp_path / "a.txt")
    made.write_artifact(record, None)
    again = opened(tmp_path, kept)
    again.write_artifact(record, None)
    again.write_metrics(records(1))
    assert ["artifact" in line for line in lines(tmp_path / "m.jsonl")] == [True, False]
