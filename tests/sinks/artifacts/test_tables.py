"""Rows of tables: what the journal holds of them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import logging
import math
import re
from typing import TYPE_CHECKING, Any, NamedTuple

import mlflow
import numpy as np
import pandas as pd
import PIL.Image
import pyarrow as pa
import pytest
import torch

from tests.sinks.kept import Kept
from trackside.encoding.tables import Rows, rows_of
from trackside.journal.held_content import content_of
from trackside.sinks.artifacts import rows as rows_

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[Kept]:
    """Cleared away at the end."""
    made = Kept(tmp_path)
    yield made
    made.close()


def table_in(kept: Kept) -> tuple[list[str], list[list[Any]]]:
    """The columns and rows of the only record."""
    record = kept.record()
    content = None if record.held is None else content_of(kept.journal, record.held)
    found = rows_of(record, content)
    return found.columns, found.rows


def test_few_rows_are_in_the_record(kept: Kept) -> None:
    """No file is made for them."""
    kept.bus.log_table([{"a": 1, "b": "x"}], "t.json")
    record = kept.record()
    assert (record.kind, record.place, record.form, record.held) == ("table", "t.json", "rows", None)
    assert rows_of(record, None) == Rows(["a", "b"], [[1, "x"]])
    assert not (kept.journal.path / "files").exists()


def test_many_rows_are_in_a_file(kept: Kept) -> None:
    """And all of them are read again."""
    kept.bus.log_table([{"a": number} for number in range(10_000)], "t.json")
    assert table_in(kept) == (["a"], [[number] for number in range(10_000)])


def test_rows_may_lack_keys_and_bring_new_ones(kept: Kept) -> None:
    """Columns stand in the order in which they first appear, and a missing value is null."""
    kept.bus.log_table([{"b": 1}, {"a": 2, "b": 3}, {"c": 4}], "t.json")
    assert table_in(kept) == (["b", "a", "c"], [[1, None, None], [3, 2, None], [None, None, 4]])


@dataclasses.dataclass
class Mistake:
    """A row with fields."""

    text: str
    loss: float


class Pair(NamedTuple):
    """A row that is a tuple."""

    text: str
    loss: float


@pytest.mark.parametrize("row", [Mistake("x", 0.5), Pair("x", 0.5)])
def test_rows_may_be_objects_with_fields(kept: Kept, row: Any) -> None:
    """Dataclasses and named tuples have names for their values."""
    kept.bus.log_table([row], "t.json")
    assert table_in(kept) == (["text", "loss"], [["x", 0.5]])


@pytest.mark.parametrize(
    "columns",
    [
        {"a": [1, 2], "b": ["x", "y"]},
        {"a": (1, 2), "b": ["x", "y"]},
        {"a": np.array([1, 2]), "b": np.array(["x", "y"])},
        {"a": torch.tensor([1, 2]), "b": ["x", "y"]},
        {"a": pd.Series([1, 2]), "b": pd.Series(["x", "y"])},
        pd.DataFrame({"a": [1, 2], "b": ["x", "y"]}, index=[7, 9]),
        pa.table({"a": [1, 2], "b": ["x", "y"]}),
        pa.RecordBatch.from_pydict({"a": [1, 2], "b": ["x", "y"]}),
    ],
    ids=lambda columns: f"{type(columns).__module__}.{type(columns).__name__}",
)
def test_columns_of_many_kinds(kept: Kept, columns: Any) -> None:
    """Mappings and DataFrames give the same table. An index is left out, as MLflow leaves it out."""
    kept.bus.log_table(columns, "t.json")
    assert table_in(kept) == (["a", "b"], [[1, "x"], [2, "y"]])


class SeriesLike(list[Any]):
    """Has what a Series of polars has, as far as it is asked for."""

    def to_list(self) -> list[Any]:
        """Its values."""
        return list(self)


class PolarsLike:
    """The same for a DataFrame of polars."""

    columns = ("a", "b")
    height = width = 2

    def get_columns(self) -> list[SeriesLike]:
        """Its columns."""
        return [SeriesLike([1, None]), SeriesLike(["x", "y"])]

    def to_dicts(self) -> None:
        """Its rows."""


def test_a_dataframe_of_polars(kept: Kept) -> None:
    """Its columns are Series, which have to_list()."""
    kept.bus.log_table(PolarsLike(), "t.json")
    assert table_in(kept) == (["a", "b"], [[1, "x"], [None, "y"]])


def test_a_single_value_goes_into_every_row(kept: Kept) -> None:
    """As in pandas: the epoch beside columns of predictions."""
    kept.bus.log_table({"epoch": 3, "guess": ["cat", "dog"]}, "t.json")
    assert table_in(kept) == (["epoch", "guess"], [[3, "cat"], [3, "dog"]])


def test_single_values_are_one_row(kept: Kept) -> None:
    """As mlflow.log_table takes them."""
    kept.bus.log_table({"a": 1, "b": "text", "c": None}, "t.json")
    assert table_in(kept) == (["a", "b", "c"], [[1, "text", None]])


def test_names_of_columns_are_texts(kept: Kept) -> None:
    """Numbers and the levels of a DataFrame's columns as well."""
    frame = pd.DataFrame([[1, 2]], columns=pd.MultiIndex.from_tuples([("a", "x"), ("b", "")]))
    kept.bus.log_table(frame, "t.json")
    assert table_in(kept) == (["a.x", "b"], [[1, 2]])
    kept.bus.log_table([{0: "a", None: "b"}], "t.json")
    assert table_in(kept) == (["0", "None"], [["a", "b"]])


CELLS: dict[str, tuple[Any, Any]] = {
    "float32": (np.float32(0.5), 0.5),
    "float64": (np.float64(0.25), 0.25),
    "longdouble": (np.longdouble(0.25), 0.25),
    "int64": (np.int64(3), 3),
    "bool": (np.bool_(True), True),
    "text of numpy": (np.str_("x"), "x"),
    "tensor": (torch.tensor(0.5), 0.5),
    "bfloat16": (torch.tensor(0.5, dtype=torch.bfloat16), 0.5),
    "with gradient": (torch.tensor(0.5, requires_grad=True), 0.5),
    "vector": (np.array([1, 2]), [1, 2]),
    "matrix": (torch.zeros(2, 2), [[0.0, 0.0], [0.0, 0.0]]),
    "sparse": (torch.zeros(2).to_sparse(), str(torch.zeros(2).to_sparse())),
    "without data": (torch.zeros(2, device="meta"), "torch.Tensor(shape=(2,), dtype=torch.float32)"),
    "huge": (np.zeros(100_000), "numpy.ndarray(shape=(100000,), dtype=float64)"),
    "datetime": (dt.datetime(2026, 1, 2, 3, 4, 5), "2026-01-02T03:04:05"),  # noqa: DTZ001 - a naive one
    "date": (dt.date(2026, 1, 2), "2026-01-02"),
    "Timestamp": (pd.Timestamp("2026-01-02T03:04:05Z"), "2026-01-02T03:04:05+00:00"),
    "NaT": (pd.NaT, None),
    "NA": (pd.NA, None),
    "datetime64": (np.datetime64("2026-01-02T03:04:05.000000006"), "2026-01-02T03:04:05.000000006"),
    "NaT of numpy": (np.datetime64("NaT"), None),
    "timedelta": (dt.timedelta(seconds=1), "0:00:01"),
    "Decimal": (decimal.Decimal("0.5"), 0.5),
    "large int": (2**70, str(2**70)),
    "list": ([1, np.int64(2), None], [1, 2, None]),
    "nested": ([[1, [2]], {"a": (3,)}], [[1, [2]], {"a": [3]}]),
    "dict": ({"a": np.float32(0.5), "b": {1: 2}}, {"a": 0.5, "b": {"1": 2}}),
    "dataclass": (Mistake("x", 0.5), {"text": "x", "loss": 0.5}),
    "set": ({3, 1}, [1, 3]),
    "bytes": (b"x", "b'x'"),
    "surrogate": ("a\udc80", "a\\udc80"),
}


@pytest.mark.parametrize(("value", "plain"), CELLS.values(), ids=CELLS)
def test_a_cell_is_plain(kept: Kept, value: Any, plain: Any) -> None:
    """Numbers stay numbers, times are ISO 8601, what is missing is null, all else is nested data or text."""
    kept.bus.log_table([{"a": value}], "t.json")
    (columns, ((found,),)) = table_in(kept)
    assert columns == ["a"]
    assert type(found) is type(plain)
    assert found == plain


@pytest.mark.parametrize("wrap", [lambda image: image, mlflow.Image], ids=["Pillow", "mlflow.Image"])
def test_an_image_in_a_cell_is_a_file_of_its_own(kept: Kept, wrap: Callable[[Any], Any]) -> None:
    """It goes before the rows, and the cell names it as a cell of ``mlflow.log_table`` does."""
    images = [wrap(PIL.Image.new("RGB", (4, 3), color)) for color in ("red", "blue")]
    kept.bus.log_table({"image": images, "guess": ["cat", "dog"]}, "a/t.json")
    first, second, table = kept.records()
    assert [(part.kind, part.step, part.form) for part in (first, second)] == [("image", None, "pixels")] * 2
    rows = rows_of(table, None).rows
    for picture, (cell, _) in zip((first, second), rows, strict=True):
        assert cell == {"type": "image", "filepath": picture.place, "compressed_filepath": picture.place}
        assert re.fullmatch(r"table_images/a/t/[0-9a-f-]{36}\.png", picture.place)


def test_what_is_not_finite_stays_in_the_journal(kept: Kept) -> None:
    """JSON has no such numbers. Other destinations do."""
    kept.bus.log_table([{"a": math.nan, "b": math.inf}], "t.json")
    _, ((nan, inf),) = table_in(kept)
    assert math.isnan(nan)
    assert inf == math.inf


def test_columns_with_times_and_missing_values(kept: Kept) -> None:
    """A DataFrame as pandas reads it from a file."""
    frame = pd.DataFrame(
        {
            "when": pd.to_datetime(["2026-01-02", None]),
            "count": pd.array([1, None], dtype="Int64"),
            "kind": pd.Categorical(["x", None]),
        }
    )
    kept.bus.log_table(frame, "t.json")
    _, (first, second) = table_in(kept)
    assert first == ["2026-01-02T00:00:00", 1, "x"]
    assert second[:2] == [None, None]
    assert math.isnan(second[2])


def test_an_index_that_names_the_rows_is_a_column(kept: Kept) -> None:
    """Without it, the table of ``describe()`` says nothing. One that counts is left out."""
    kept.bus.log_table(pd.DataFrame({"a": [1, 3]}).describe(), "t.json")
    columns, rows = table_in(kept)
    assert columns == ["index", "a"]
    assert rows[:2] == [["count", 2.0], ["mean", 2.0]]
    kept.bus.log_table(pd.DataFrame({"a": [1]}, index=pd.Index(["x"], name="a")), "t.json")
    assert table_in(kept) == (["a"], [[1]])


@pytest.mark.parametrize(
    "rows",
    [
        [{"a": 1}, {"a": "text"}, {"a": None}, {"a": math.inf}],
        [{"a": [[np.arange(3), np.arange(3)], [np.arange(3)]]}],
        [{"a": [{"b": 1, "c": [[{"d": 1, "e": None}]]}]}, {"a": [{"b": 1, "c": [[{"d": 1}]]}]}],
        [{"a": b"\xff"}, {"a": object()}, {"a": lambda: None}, {"a": torch.nn.Linear(1, 1)}],
        [{"a": {1, 2}}, {"a": ...}, {"a": 1 + 2j}, {"a": float}],
        [{"": 1}, {None: 2}, {("x", 1): 3}, {math.nan: 4}],
        [{"a": "line\nbreak \x00 \u2028 \U0001f600"}],
    ],
)
def test_what_other_trackers_choke_on_is_kept(kept: Kept, rows: list[dict[Any, Any]]) -> None:
    """Columns of mixed types, nested arrays of unequal lengths, objects, and names that are no texts."""
    kept.bus.log_table(rows, "t.json")
    assert len(table_in(kept)[1]) == len(rows)


def test_rows_are_copied(kept: Kept) -> None:
    """A loop that fills the same list again changes nothing that was logged."""
    row = {"a": [1]}
    kept.bus.log_table([row], "t.json")
    row["a"].append(2)
    assert table_in(kept)[1] == [[[1]]]


def test_secrets_in_cells_are_masked(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """By their value anywhere, and by the name of a column or a key. Tokens of a language model stay."""
    monkeypatch.setenv("SERVICE_TOKEN", "abcdefghijklmnop1234")
    rows = [
        {
            "text": "it is abcdefghijklmnop1234",
            "nested": {"password": "hunter22"},
            "api_key": "xyz",
            "token": "hello",
            "next_token": "<|im_end|>",
            "tokens": 5,
            "name": "api_key",
            "value": "visible",
        }
    ]
    kept.bus.log_table(rows, "t.json")
    assert table_in(kept)[1] == [
        ["it is ***", {"password": "***"}, "***", "hello", "<|im_end|>", 5, "api_key", "visible"]
    ]


def test_an_empty_table_is_a_table(kept: Kept) -> None:
    """An epoch without mistakes is a result, too."""
    kept.bus.log_table([], "t.json")
    assert table_in(kept) == ([], [])
    kept.bus.log_table({"a": [], "b": []}, "t.json")
    assert table_in(kept) == (["a", "b"], [])


@pytest.mark.parametrize(
    ("data", "name", "advice"),
    [
        ({"a": [1, 2], "b": [1]}, "t.json", "different lengths: 'a' has 2, 'b' has 1"),
        ([[1, 2]], "t.json", "row 0 of the table is of type list"),
        (["text"], "t.json", "row 0"),
        ("text", "t.json", "not str"),
        (None, "t.json", "not NoneType"),
        (np.zeros((3, 2)), "t.json", "not ndarray. Name its columns: {'x': array[:, 0]"),
        (iter([{"a": 1}]), "t.json", "not list_iterator. Pass list() of it"),
        ([{1: "a", "1": "b"}], "t.json", "two columns"),
        (pd.DataFrame([[1, 2]], columns=["a", "a"]), "t.json", "two columns"),
        ([{"a": 1}], "t", "End its name in '.json'"),
        ([{"a": 1}], "t.parquet", "End its name in '.json'"),
        ([{"a": 1}], "a,b.json", "MLflow refuses ','"),
        ([{"a": 1}], "../t.json", "leaves the run"),
        ([{"a": 1}], ["t.json"], "not list"),
    ],
)
def test_what_is_no_table_is_told_once(
    kept: Kept, caplog: pytest.LogCaptureFixture, data: Any, name: Any, advice: str
) -> None:
    """Nothing is raised, nothing is in the journal, and the warning says what to do."""
    with caplog.at_level(logging.WARNING):
        kept.bus.log_table(data, name)
        kept.bus.log_table(data, name)
    assert kept.records() == []
    assert advice in caplog.messages[0]


def test_a_table_that_no_page_shows_is_refused(
    kept: Kept, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before its values are looked at."""
    monkeypatch.setattr(rows_, "MAX_CELLS", 10)
    kept.bus.log_table(pd.DataFrame({"a": range(11)}), "t.json")
    assert kept.records() == []
    assert "log_artifact()" in caplog.text
