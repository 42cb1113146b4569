"""What is logged as a table, as the names of its columns and rows of plain values.

Takes mappings of columns, lists of rows, and DataFrames of pandas, polars and pyarrow, which are told by what
they can do: none of these libraries is imported.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from trackside.encoding.tables import Rows
from trackside.errors import ArtifactError
from trackside.params import plain_data
from trackside.sinks.artifacts.cells import plain_cell, plain_column
from trackside.text import encodable

MAX_CELLS = 5_000_000
"""Of one call. MLflow's page loads a whole table into the browser."""

_FEW = 8


def table_rows(data: Any) -> Rows:
    """The rows in ``data``, in the order of its columns. Raises :class:`ArtifactError`."""
    frame = _frame(data)
    if frame is not None:
        return _of_columns(*frame)
    if isinstance(data, Mapping):
        return _of_mapping(data)
    if isinstance(data, (list, tuple, deque)) and not hasattr(data, "_asdict"):
        return _of_rows(list(data))
    raise ArtifactError(
        f"log_table() takes a list of mappings, a mapping of columns or a DataFrame, not "
        f"{type(data).__name__}{_advice(data)}"
    )


def _advice(data: Any) -> str:
    if isinstance(data, Iterator):
        return ". Pass list() of it"
    if hasattr(data, "shape"):
        return ". Name its columns: {'x': array[:, 0], 'y': array[:, 1]}"
    for method in ("collect", "toPandas", "to_pandas", "compute"):
        if hasattr(type(data), method):
            return f". Pass the part you want to see, with .{method}()"
    return ""


def _frame(data: Any) -> tuple[list[Any], list[Any]] | None:
    """The names and the values of the columns of a DataFrame or Series, or None."""
    kind = type(data)
    if hasattr(kind, "iloc") and hasattr(kind, "to_frame") and hasattr(data, "name"):  # a pandas Series
        data = data.to_frame("value" if data.name is None else data.name)
        kind = type(data)
    if hasattr(kind, "iloc") and hasattr(data, "columns"):  # pandas
        _check_size(*data.shape)
        data = _with_index(data)
        return list(data.columns), [data.iloc[:, index] for index in range(len(data.columns))]
    if hasattr(kind, "get_columns") and hasattr(kind, "to_dicts"):  # polars
        _check_size(data.height, data.width)
        return list(data.columns), [column.to_list() for column in data.get_columns()]
    if hasattr(kind, "column_names") and hasattr(kind, "to_pylist"):  # pyarrow
        _check_size(data.num_rows, data.num_columns)
        return list(data.column_names), [column.to_pylist() for column in data.columns]
    return None


def _with_index(frame: Any) -> Any:
    """A DataFrame with its index as columns, unless it only counts. That of ``describe()`` names the rows."""
    if getattr(getattr(frame.index, "dtype", None), "kind", "i") in {"i", "u"}:
        return frame
    try:
        return frame.reset_index()
    except ValueError:  # there is a column of that name
        return frame


def _check_size(rows: int, columns: int) -> None:
    if rows * columns > MAX_CELLS:
        raise ArtifactError(
            f"{rows} rows of {columns} columns are too many for a table: it takes {MAX_CELLS} values a call. "
            "Write them to a file, and pass that to log_artifact()"
        )


def _of_columns(names: list[Any], columns: list[Any]) -> Rows:
    return Rows(_unique(names), _transposed([plain_column(column) for column in columns]))


def _transposed(columns: list[list[Any]]) -> list[list[Any]]:
    return [list(row) for row in zip(*columns, strict=True)]


def _of_mapping(data: Mapping[Any, Any]) -> Rows:
    """Columns of equal length. A single value goes into every row, and single values alone are one row."""
    items = list(data.items())
    lengths = {name: len(value) for name, value in items if _is_column(value)}
    _check_lengths(lengths)
    count = next(iter(lengths.values()), 1 if items else 0)
    _check_size(count, len(items))
    columns = [
        plain_column(value) if name in lengths else [plain_cell(value)] * count for name, value in items
    ]
    return Rows(_unique([name for name, _ in items]), _transposed(columns))


def _is_column(value: Any) -> bool:
    if isinstance(value, (list, tuple, deque, range)):
        return True
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return len(shape) > 0
    return hasattr(type(value), "to_list") and hasattr(type(value), "__len__")  # a Series of polars


def _check_lengths(lengths: Mapping[Any, int]) -> None:
    if len(set(lengths.values())) > 1:
        some = ", ".join(f"{name!r} has {count}" for name, count in list(lengths.items())[:_FEW])
        raise ArtifactError(
            f"the columns of the table have different lengths: {some}. Pad the shorter ones with None"
        )


def _of_rows(data: list[Any]) -> Rows:
    rows = [_as_mapping(index, row) for index, row in enumerate(data)]
    keys = list(dict.fromkeys(key for row in rows for key in row))
    _check_size(len(rows), len(keys))
    return Rows(_unique(keys), [[plain_cell(row.get(key)) for key in keys] for row in rows])


def _as_mapping(index: int, row: Any) -> Mapping[Any, Any]:
    if isinstance(row, Mapping):
        return row
    if hasattr(row, "_asdict"):
        named: Mapping[Any, Any] = row._asdict()
        return named
    plain = plain_data(row)
    if isinstance(plain, dict):
        return plain
    raise ArtifactError(
        f"row {index} of the table is of type {type(row).__name__} and has no names. "
        "Pass a mapping such as {'loss': 0.5} for each row, or a mapping of columns"
    )


def _unique(names: list[Any]) -> list[str]:
    texts = [encodable(name if isinstance(name, str) else _name(name)) for name in names]
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise ArtifactError(f"two columns of the table are called {twice!r}. Rename one of them")
    return texts


def _name(name: Any) -> str:
    """The text of a name that is none: a number, or a tuple where a DataFrame has several levels."""
    return ".".join(str(part) for part in name if part != "") if isinstance(name, tuple) else str(name)
