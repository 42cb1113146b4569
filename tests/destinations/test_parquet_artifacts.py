"""The list of artifacts beside a run's points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd
from pyarrow import parquet

from tests.destinations.test_parquet import opened, read, tell_end
from tests.destinations.tools import START_MS, artifact, config, records

if TYPE_CHECKING:
    from pathlib import Path


def listed(directory: Path) -> Any:
    """What pandas reads of the list."""
    return pd.read_parquet(directory / "points" / "_artifacts")


def places(directory: Path) -> list[str]:
    """The places in the list, in its order."""
    return list(listed(directory)["place"])


def test_artifacts_have_a_table_of_their_own(tmp_path: Path) -> None:
    """A row each. Who reads the directory gets the points and nothing else."""
    made = opened(tmp_path)
    made.write_config(config({"lr": 0.1}))
    made.write_metrics(records(1, 2))
    made.write_artifact(artifact("checkpoint", "last", tmp_path / "last.pt", step=2), None)
    made.write_artifact(artifact("dataset", "digits", None), None)
    made.write_artifact(artifact("image", "samples", None, step=2**70), None)
    tell_end(made)
    assert list(read(tmp_path)["step"]) == [1, 2]
    found = listed(tmp_path)
    assert list(found["kind"]) == ["checkpoint", "dataset", "image"]
    assert found["step"].tolist()[0] == 2
    assert found["step"].isna().tolist() == [False, True, True]
    assert [found["path"][0], found["size"][0]] == ["/home/user/last.pt", 1234]
    assert found["path"].isna().tolist() == [False, True, True]
    assert set(found["timestamp"]) == {pd.Timestamp(START_MS, unit="ms", tz="UTC")}
    assert set(found["run"]) == {"a run"}
    assert set(found["attempt"]) == {made.context.journal.name}
    (path,) = (tmp_path / "points" / "_artifacts").iterdir()
    assert b'"lr": 0.1' in parquet.read_schema(path).metadata[b"trackside.config"]


def test_a_run_without_artifacts_has_no_list(tmp_path: Path) -> None:
    """And no empty folder."""
    made = opened(tmp_path)
    made.write_metrics(records(1))
    tell_end(made)
    assert not (tmp_path / "points" / "_artifacts").exists()


def test_the_list_is_read_while_the_run_goes_on(tmp_path: Path) -> None:
    """It is written with each part, and at the end once more."""
    made = opened(tmp_path, part_points=1)
    for number in range(3):
        made.write_artifact(artifact("text", f"{number}.txt", None), None)
        made.write_metrics(records(number))
        made.idle()
        assert places(tmp_path) == [f"{one}.txt" for one in range(number + 1)]
    made.write_artifact(artifact("text", "last.txt", None), None)
    tell_end(made, final=False)
    tell_end(made)
    assert places(tmp_path) == ["0.txt", "1.txt", "2.txt", "last.txt"]


def test_an_artifact_that_arrives_twice_has_one_row(tmp_path: Path) -> None:
    """What was acknowledged stays, and what was not is cut off and comes again."""
    made = opened(tmp_path)
    made.write_artifact(artifact("text", "a.txt", None), None)
    kept = made.state()
    made.write_artifact(artifact("text", "b.txt", None), None)
    made.close()
    again = opened(tmp_path, kept)
    again.write_artifact(artifact("text", "b.txt", None), None)
    tell_end(again)
    assert places(tmp_path) == ["a.txt", "b.txt"]


def test_a_journal_of_before_has_no_list_yet(tmp_path: Path) -> None:
    """Its state does not say how long the list is."""
    made = opened(tmp_path)
    made.write_metrics(records(1))
    kept = {name: value for name, value in made.state().items() if name != "artifacts"}
    made.close()
    again = opened(tmp_path, kept)
    again.write_artifact(artifact("text", "a.txt", None), None)
    tell_end(again)
    assert places(tmp_path) == ["a.txt"]


def test_two_runs_may_share_a_directory(tmp_path: Path) -> None:
    """Each has a list of its own there."""
    for number in ("1", "2"):
        made = opened(tmp_path, journal_id=number * 32)
        made.write_artifact(artifact("text", f"{number}.txt", None), None)
        tell_end(made)
    assert sorted(places(tmp_path)) == ["1.txt", "2.txt"]
