"""Texts and documents: what the journal holds of them, and the files that are made of it."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import logging
import math
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from tests.sinks.kept import Kept
from trackside.encoding.finished import finished
from trackside.journal.held_content import content_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path)
    yield made
    made.close()


def file_of(kept: Kept, folder: Path) -> str:
    """The text of the file that is delivered for the only record."""
    record = kept.record()
    return finished(record, content_of(kept.journal, record.held), folder).read_text("utf-8")


def test_a_text_is_a_file_of_its_own(kept: Kept, tmp_path: Path) -> None:
    """Every character arrives, in UTF-8."""
    kept.bus.log_text("größer 图\n", "notes/a.txt")
    assert file_of(kept, tmp_path) == "größer 图\n"


def test_a_text_that_no_encoding_takes_is_spelt_out(kept: Kept, tmp_path: Path) -> None:
    """Lone surrogates come from file names."""
    kept.bus.log_text("a\udc80b", "a.txt")
    assert file_of(kept, tmp_path) == "a\\udc80b"


def test_secrets_in_a_text_are_masked(kept: Kept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Known ones, and those that look like one."""
    monkeypatch.setenv("SERVICE_TOKEN", "abcdefghijklmnop1234")
    kept.bus.log_text("https://user:hunter22@host/ and abcdefghijklmnop1234", "a.txt")
    text = file_of(kept, tmp_path)
    assert "hunter22" not in text
    assert "abcdefghijklmnop1234" not in text


@dataclasses.dataclass
class Optimizer:
    """Stands for a part of a configuration."""

    rate: float
    betas: tuple[float, float]


def document() -> dict[Any, Any]:
    """Values of many kinds."""
    return {
        "z": 1,
        "a": np.float32(0.5),
        "matrix": np.arange(100).reshape(10, 10),
        "optimizer": Optimizer(1e-3, (0.9, 0.999)),
        "when": dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.timezone.utc),
        "none": None,
        3: "three",
        "größe": "图",
    }


def test_a_document_is_json(kept: Kept, tmp_path: Path) -> None:
    """Arrays are whole, objects are their fields, and the order stays."""
    kept.bus.log_dict(document(), "a.json")
    found = json.loads(file_of(kept, tmp_path))
    assert list(found) == ["z", "a", "matrix", "optimizer", "when", "none", "3", "größe"]
    assert found["a"] == 0.5
    assert found["matrix"] == np.arange(100).reshape(10, 10).tolist()
    assert found["optimizer"] == {"rate": 1e-3, "betas": [0.9, 0.999]}
    assert found["when"] == "2026-01-02 03:04:05+00:00"


@pytest.mark.parametrize("name", ["a.yaml", "a.yml"])
def test_a_document_may_be_yaml(kept: Kept, tmp_path: Path, name: str) -> None:
    """By the ending of its name, with the order as it was given."""
    kept.bus.log_dict(document(), name)
    text = file_of(kept, tmp_path)
    assert text.startswith("z: 1\n")
    assert "größe: 图" in text
    assert yaml.safe_load(text)["optimizer"] == {"rate": 1e-3, "betas": [0.9, 0.999]}


def test_a_document_of_another_ending_is_json(kept: Kept, tmp_path: Path) -> None:
    """As MLflow does."""
    kept.bus.log_dict({"a": 1}, "a.txt")
    assert json.loads(file_of(kept, tmp_path)) == {"a": 1}


def test_a_list_is_a_document(kept: Kept, tmp_path: Path) -> None:
    """JSON has lists at the top."""
    kept.bus.log_dict([1, {"a": 2}], "a.json")
    assert json.loads(file_of(kept, tmp_path)) == [1, {"a": 2}]


def test_what_is_not_finite_is_text_in_json(kept: Kept, tmp_path: Path) -> None:
    """A file with a bare NaN is no JSON, and MLflow's page shows nothing of it."""
    kept.bus.log_dict({"a": [math.nan, math.inf, -math.inf]}, "a.json")
    assert json.loads(file_of(kept, tmp_path)) == {"a": ["NaN", "Infinity", "-Infinity"]}


def test_what_is_not_finite_is_a_number_in_yaml(kept: Kept, tmp_path: Path) -> None:
    """YAML has such numbers."""
    kept.bus.log_dict({"a": math.inf}, "a.yaml")
    assert yaml.safe_load(file_of(kept, tmp_path)) == {"a": math.inf}


def test_a_document_within_itself_ends(kept: Kept, tmp_path: Path) -> None:
    """A cycle is named where it closes."""
    cyclic: dict[str, Any] = {"a": 1}
    cyclic["itself"] = cyclic
    kept.bus.log_dict(cyclic, "a.json")
    assert json.loads(file_of(kept, tmp_path)) == {"a": 1, "itself": "<cycle: dict>"}


def test_secrets_in_a_document_are_masked(kept: Kept, tmp_path: Path) -> None:
    """By their key, as in a configuration."""
    kept.bus.log_dict({"api_key": "abcdefgh12345", "a": 1}, "a.json")
    assert json.loads(file_of(kept, tmp_path)) == {"api_key": "***", "a": 1}


@pytest.mark.parametrize(
    ("call", "arguments", "advice"),
    [
        ("log_text", (b"bytes", "a.txt"), "not bytes"),
        ("log_text", ("text", "../a.txt"), "leaves the run"),
        ("log_text", ("text", ""), "empty"),
        ("log_dict", (3, "a.json"), "not int"),
        ("log_dict", ({}, "/a.json"), "absolute"),
    ],
)
def test_what_can_not_be_kept_is_told_once(
    kept: Kept, caplog: pytest.LogCaptureFixture, call: str, arguments: tuple[Any, ...], advice: str
) -> None:
    """Nothing is raised, nothing is in the journal, and the warning says what to do."""
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            getattr(kept.bus, call)(*arguments)
    assert kept.records() == []
    (warning,) = caplog.messages
    assert advice in warning
