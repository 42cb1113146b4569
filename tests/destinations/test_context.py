from __future__ import annotations

from pathlib import Path

import pytest

from tests.destinations.tools import context
from trackside.destinations.context import check_template, file_name
from trackside.errors import ConfigurationError, DestinationFailedError


def test_a_path_is_where_the_training_was_started(tmp_path: Path):
    """The shipper's own working directory plays no part. An absolute path stays as it is."""
    made = context(tmp_path)
    assert made.path("metrics.jsonl") == tmp_path / "metrics.jsonl"
    assert made.path(Path("/data") / "m.jsonl") == Path("/data/m.jsonl")
    assert made.path("~/m.jsonl") == Path.home() / "m.jsonl"


def test_placeholders_are_filled_in(tmp_path: Path):
    """The run's, the experiment's and the journal's name, and the rank."""
    made = context(tmp_path, run_name="größe 3")
    path = made.path("{experiment_name}/{run_name}/{journal}-{rank}")
    assert path == tmp_path / "digits" / "größe 3" / f"{made.journal.name}-0"


def test_a_run_without_a_name_is_called_by_its_journal(tmp_path: Path):
    """MLflow makes its name up later. Two unnamed runs must not write to one place."""
    made = context(tmp_path, run_name=None)
    assert made.path("{run_name}") == tmp_path / made.journal.name


@pytest.mark.parametrize("name", ["../../etc", "..", "a/b", "a\0b", ".hidden", "", "x" * 400])
def test_a_run_name_cannot_lead_elsewhere(tmp_path: Path, name: str):
    """Whatever a run is called, it is one directory below the one that was asked for."""
    made = context(tmp_path, run_name=name).path("runs/{run_name}")
    assert made.parent == tmp_path / "runs"
    assert made.name not in {"", ".", ".."}
    made.mkdir(parents=True)
    assert not file_name(name).startswith(".")


def test_an_unknown_placeholder_names_the_nearest(tmp_path: Path):
    """In the training process while it can still tell the user, and in the shipper at the latest."""
    with pytest.raises(
        ConfigurationError, match=r"'x/\{runname\}': 'runname'; did you mean 'run_name'\?.*journal"
    ):
        check_template("x/{runname}")
    with pytest.raises(DestinationFailedError, match="runname"):
        context(tmp_path).path("x/{runname}")


@pytest.mark.parametrize("wrong", [3, None, b"bytes", ""])
def test_a_path_is_a_text(wrong: object):
    """Anything else is an error of the configuration, not of the shipper."""
    with pytest.raises(ConfigurationError, match="is not a path"):
        check_template(wrong)  # type: ignore[arg-type]
