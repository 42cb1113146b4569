"""What is said of datasets of many kinds."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import mlflow.entities
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from mlflow.data.code_dataset_source import CodeDatasetSource
from mlflow.data.numpy_dataset import from_numpy
from mlflow.data.pandas_dataset import PandasDataset
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset

from tests.sinks.kept import Kept
from trackside.sinks.artifacts import digests

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path)
    yield made
    made.close()


def said_of(kept: Kept, dataset: Any, context: str | None = None, **options: Any) -> dict[str, Any]:
    """The details of the only record."""
    kept.bus.log_dataset(dataset, context, **options)
    record = kept.record()
    assert (record.kind, record.held) == ("dataset", None)
    assert record.place == record.details["name"]
    return dict(record.details)


def test_a_dataset_of_mlflow_is_as_mlflow_describes_it(kept: Kept) -> None:
    """Its hints on the schema are no errors, although the tests make errors of warnings."""
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"]})
    source = CodeDatasetSource({"mlflow.source.name": "train.py"})
    dataset = PandasDataset(frame, source, name="digits", digest="0123abcd")
    found = said_of(kept, dataset, "train")
    assert found.pop("context") == "train"
    assert found == dataset.to_dict()


def test_an_entity_of_mlflow_is_taken_as_it_is(kept: Kept) -> None:
    """Programs that build the request themselves have one."""
    dataset = mlflow.entities.Dataset("digits", "abc", "local", '{"uri": "/data"}', schema="{}")
    assert said_of(kept, dataset) == {
        "name": "digits",
        "digest": "abc",
        "source_type": "local",
        "source": '{"uri": "/data"}',
        "schema": "{}",
    }


@pytest.mark.parametrize(
    "frame",
    [
        pd.DataFrame({"a": [1, 2, 3], "b": [0.5, 1, 2]}),
        pa.table({"a": [1, 2, 3], "b": [0.5, 1, 2]}),
    ],
    ids=["pandas", "pyarrow"],
)
def test_a_dataframe_has_a_schema_and_a_profile(kept: Kept, frame: Any) -> None:
    """In MLflow's words."""
    found = said_of(kept, frame, "train", name="digits")
    columns = json.loads(found["schema"])["mlflow_colspec"]
    assert [(column["name"], column["type"]) for column in columns] == [("a", "long"), ("b", "double")]
    assert json.loads(found["profile"]) == {"num_rows": 3, "num_elements": 6}
    assert (found["name"], found["source_type"], found["context"]) == ("digits", "code", "train")


@pytest.mark.parametrize("array", [np.zeros((6, 4), np.float32), torch.zeros(6, 4)], ids=["numpy", "torch"])
def test_an_array_has_a_schema_and_a_profile(kept: Kept, array: Any) -> None:
    """As mlflow.data.from_numpy describes it."""
    found = said_of(kept, array)
    theirs = from_numpy(np.zeros((6, 4), np.float32)).to_dict()
    assert found["schema"] == theirs["schema"]
    assert found["profile"] == theirs["profile"]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.zeros(100_000), np.ones(100_000)),
        (np.zeros(10), np.zeros(11)),
        (np.zeros(10), np.zeros(10, np.float32)),
        (torch.zeros(3, 5), torch.zeros(5, 3)),
        (np.array("a"), np.array("b")),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"b": [1]})),
        (pd.DataFrame({"a": [1]}), pd.DataFrame({"a": [2]})),
        (pd.Series([1]), pd.Series([2])),
        (pa.table({"a": [1]}), pa.table({"a": [2]})),
        (TensorDataset(torch.zeros(3)), TensorDataset(torch.ones(3))),
    ],
)
def test_digests_tell_datasets_apart(kept: Kept, one: Any, other: Any) -> None:
    """And the same dataset has the same one."""
    first, again, second = (said_of(kept, dataset)["digest"] for dataset in (one, one, other))
    assert first == again != second
    assert len(first) == 8


def test_a_large_array_costs_as_much_as_a_small_one(tmp_path: Path) -> None:
    """Of an array on disk, few values are read."""
    large = np.memmap(tmp_path / "large", np.float64, "w+", shape=(50_000, 1000))
    assert np.size(digests.sample(large)) <= digests.MOST_VALUES
    assert np.size(digests.sample(large[0])) <= digests.MOST_VALUES
    assert np.size(digests.sample(np.zeros((1, 1, 1_000_000)))) <= digests.MOST_VALUES


def test_a_loader_is_the_dataset_that_it_loads(kept: Kept) -> None:
    """It is what a training has at hand."""
    dataset = TensorDataset(torch.zeros(7, 2))
    assert said_of(kept, DataLoader(dataset, batch_size=2)) == said_of(kept, dataset)


def test_a_subset_is_a_part_of_its_dataset(kept: Kept) -> None:
    """As random_split makes it: other indices, another digest."""
    dataset = TensorDataset(torch.zeros(7, 2))
    first, second = said_of(kept, Subset(dataset, [0, 1])), said_of(kept, Subset(dataset, [0, 2]))
    assert first["name"] == "TensorDataset"
    assert json.loads(first["profile"]) == {"num_rows": 2}
    assert first["digest"] != second["digest"]


class Stream(IterableDataset[int]):
    """Has no length."""

    def __iter__(self) -> Iterator[int]:
        return iter(())


class Images:
    """As torchvision's datasets are: it knows its folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __getitem__(self, index: int) -> int:
        return index

    def __len__(self) -> int:
        return 3


def test_datasets_of_torch_are_named_by_their_class(kept: Kept, tmp_path: Path) -> None:
    """With their folder, where they have one."""
    assert said_of(kept, Stream())["name"] == "Stream"
    found = said_of(kept, Images(tmp_path))
    assert (found["name"], found["source_type"]) == ("Images", "local")
    assert json.loads(found["source"]) == {"uri": str(tmp_path)}


class HuggingFaceLike:
    """Has what a Dataset of Hugging Face has, as far as it is asked for."""

    features = {"text": SimpleNamespace(dtype="string"), "label": SimpleNamespace(dtype="int64")}  # noqa: RUF012
    info = SimpleNamespace(dataset_name="imdb", builder_name="imdb", config_name="plain")
    split = "train"
    _fingerprint = "0123456789abcdef"

    def __len__(self) -> int:
        return 25_000

    def map(self) -> None:
        """Tells it from others."""


def test_a_dataset_of_hugging_face_has_its_own_digest(kept: Kept) -> None:
    """The library keeps one anyway."""
    found = said_of(kept, HuggingFaceLike())
    assert (found["name"], found["digest"], found["source_type"]) == (
        "imdb",
        "0123456789abcdef",
        "hugging_face",
    )
    assert json.loads(found["source"])["split"] == "train"
    assert json.loads(found["profile"]) == {"num_rows": 25_000}
    assert json.loads(found["schema"])["mlflow_colspec"][1]["type"] == "long"


def test_a_file_is_named_by_its_stem(kept: Kept, tmp_path: Path) -> None:
    """And its digest follows its contents, wherever it lies."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "train.csv").write_text("x,y\n1,2\n")
    first, second = (said_of(kept, tmp_path / folder / "train.csv") for folder in ("a", "b"))
    assert (first["name"], first["source_type"]) == ("train", "local")
    assert first["digest"] == second["digest"]
    (tmp_path / "a" / "train.csv").write_text("x,y\n1,3\n")
    assert said_of(kept, str(tmp_path / "a" / "train.csv"))["digest"] != first["digest"]


def test_a_folder_is_a_dataset(kept: Kept, tmp_path: Path) -> None:
    """By the names and sizes of what is in it."""
    (tmp_path / "images").mkdir()
    before = said_of(kept, tmp_path / "images")
    (tmp_path / "images" / "1.png").write_bytes(b"1")
    assert said_of(kept, tmp_path / "images")["digest"] != before["digest"]


@pytest.mark.parametrize(
    ("address", "kind", "source"),
    [
        ("s3://bucket/train.parquet", "s3", {"uri": "s3://bucket/train.parquet"}),
        ("https://host/a/train.csv?v=1", "http", {"url": "https://host/a/train.csv?v=1"}),
    ],
)
def test_an_address_is_not_asked_for(kept: Kept, address: str, kind: str, source: dict[str, str]) -> None:
    """The digest is that of the address."""
    found = said_of(kept, address)
    assert (found["source_type"], json.loads(found["source"])) == (kind, source)
    assert found["name"].startswith("train")


def test_a_bare_name_is_a_dataset(kept: Kept) -> None:
    """It may be all there is."""
    assert said_of(kept, "imagenet-1k", "train")["name"] == "imagenet-1k"


def test_a_mapping_describes_a_dataset(kept: Kept) -> None:
    """For whatever is not known here."""
    found = said_of(kept, {"name": "mine", "digest": "v3", "source": "s3://bucket", "profile": {"rows": 3}})
    assert (found["digest"], found["source"], found["profile"]) == (
        "v3",
        '{"uri": "s3://bucket"}',
        '{"rows": 3}',
    )


def test_secrets_in_an_address_are_masked(kept: Kept) -> None:
    """As everywhere."""
    assert "hunter22" not in str(said_of(kept, "https://user:hunter22@host/train.csv"))


@pytest.mark.parametrize(
    ("dataset", "advice"),
    [
        ("data/missing.csv", "there is no file"),
        (Path("missing"), "there is no file"),
        ("", "there is no file"),
        ([1, 2, 3], "can't describe a value of type list"),
        (None, "can't describe a value of type NoneType"),
        ({"train": [1], "test": [2]}, "log each one by itself"),
        ({"name": "x", "source": "y" * 70_000}, "65535"),
    ],
)
def test_what_is_no_dataset_is_told_once(
    kept: Kept, caplog: pytest.LogCaptureFixture, dataset: Any, advice: str
) -> None:
    """Nothing is raised, nothing is in the journal, and the warning says what to do."""
    with caplog.at_level(logging.WARNING):
        kept.bus.log_dataset(dataset)
        kept.bus.log_dataset(dataset)
    assert kept.records() == []
    assert advice in caplog.messages[0]
