"""A table that grows by a line for each record."""

from __future__ import annotations

import io
import json
import math
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from tests.destinations.tools import file_size_limit
from trackside.destinations.mlflow.artifacts.growing_table import GrowingTable, new_table
from trackside.encoding.tables import Rows

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Where the table is."""
    return tmp_path / "t.rows"


def whole(table: GrowingTable, folder: Path) -> Any:
    """The table as it would be uploaded."""
    table.write(folder / "whole.json")
    return json.loads((folder / "whole.json").read_text("utf-8"))


def test_rows_stand_in_the_order_of_their_records(path: Path, tmp_path: Path) -> None:
    """And pandas reads the table."""
    table = new_table(path, "t.json", "t.json", None)
    table.add(1, Rows(["a", "b"], [[1, "x"], [2, "ü"]]))
    table.add(2, Rows(["a", "b"], []))
    table.add(3, Rows(["a", "b"], [[3, None]]))
    assert whole(table, tmp_path) == {"columns": ["a", "b"], "data": [[1, "x"], [2, "ü"], [3, None]]}
    read = pd.read_json(io.StringIO((tmp_path / "whole.json").read_text("utf-8")), orient="split")
    assert read["a"].tolist() == [1, 2, 3]


def test_an_empty_table_is_one_that_pandas_reads(path: Path, tmp_path: Path) -> None:
    """No rows, and no columns either."""
    table = new_table(path, "t.json", "t.json", None)
    table.add(1, Rows([], []))
    assert whole(table, tmp_path) == {"columns": [], "data": []}


def test_columns_that_come_later_are_null_before(path: Path, tmp_path: Path) -> None:
    """Columns keep their place whatever order a record has them in."""
    table = new_table(path, "t.json", "t.json", None)
    table.add(1, Rows(["a"], [[1]]))
    table.add(2, Rows(["c", "a"], [[{"x": [1]}, 2]]))
    table.add(3, Rows(["b"], [["y"]]))
    expected = {
        "columns": ["a", "c", "b"],
        "data": [[1, None, None], [2, {"x": [1]}, None], [None, None, "y"]],
    }
    assert whole(table, tmp_path) == expected
    assert whole(GrowingTable(path), tmp_path) == expected


def test_what_is_not_finite_is_null(path: Path, tmp_path: Path) -> None:
    """As pandas writes it: JSON has no such numbers."""
    table = new_table(path, "t.json", "t.json", None)
    table.add(1, Rows(["a"], [[math.nan], [math.inf]]))
    assert whole(table, tmp_path)["data"] == [[None], [None]]


def test_a_record_that_comes_twice_is_added_once(path: Path, tmp_path: Path) -> None:
    """After a restart, too."""
    new_table(path, "t.json", "t.json", None).add(7, Rows(["a"], [[1]]))
    table = GrowingTable(path)
    table.add(7, Rows(["a"], [[1]]))
    table.add(8, Rows(["a"], [[2]]))
    assert whole(table, tmp_path)["data"] == [[1], [2]]


@pytest.mark.parametrize("left", [1, 10, 30])
def test_a_torn_line_is_left_out(path: Path, tmp_path: Path, left: int) -> None:
    """The shipper died while it wrote. The record comes again, and so does a shorter one."""
    table = new_table(path, "t.json", "t.json", None)
    table.add(1, Rows(["a"], [[1]]))
    size = table.size
    table.add(2, Rows(["a"], [["a long text, longer than the next"]]))
    with path.open("rb+") as file:
        file.truncate(size + left)
    again = GrowingTable(path)
    again.add(3, Rows(["a"], [[3]]))
    for table in (again, GrowingTable(path)):
        assert whole(table, tmp_path)["data"] == [[1], [3]]
        assert table.damaged == 0


def test_a_full_disk_costs_no_row(path: Path, tmp_path: Path) -> None:
    """What fails is tried again, and what it left behind is written over."""
    table = new_table(path, "t.json", "t.json", None)
    table.add(1, Rows(["a"], [[1]]))
    with file_size_limit(table.size + 5), pytest.raises(OSError, match="large"):
        table.add(2, Rows(["a"], [[2]]))
    table.add(2, Rows(["a"], [[2]]))
    assert whole(GrowingTable(path), tmp_path)["data"] == [[1], [2]]


def test_a_damaged_line_costs_its_own_rows(path: Path, tmp_path: Path) -> None:
    """And is counted."""
    table = new_table(path, "t.json", "t.json", None)
    start = table.size
    for number in range(3):
        table.add(number + 1, Rows(["a"], [[number]]))
    damaged = bytearray(path.read_bytes())
    damaged[start : start + 4] = b"\0\0\0\0"
    path.write_bytes(damaged)
    again = GrowingTable(path)
    assert again.damaged == 1
    assert whole(again, tmp_path)["data"] == [[1], [2]]


def test_another_file_is_no_table(path: Path) -> None:
    """It is said, and nothing is written to it."""
    path.write_bytes(b"\0\0\0\n")
    with pytest.raises(ValueError, match="damaged"):
        GrowingTable(path)
    assert path.read_bytes() == b"\0\0\0\n"
