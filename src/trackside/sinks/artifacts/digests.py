"""Digests of datasets that cost little however large the dataset is.

They tell datasets apart that differ in size, shape, type, names or in what is sampled. Two that differ in a
single value in between may get the same. ``mlflow.data`` reads no more than the first 10,000 rows either. The
training waits for this.
"""

from __future__ import annotations

import itertools
import os
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

MOST_VALUES = 4096
"""Read of an array or a table."""

_MOST_ROWS = 64
_BLOCK = 1 << 16
"""Bytes that are read at the beginning, in the middle and at the end of a file."""

_MOST_ENTRIES = 1000
_SIZE = 4
"""Bytes of a digest: MLflow recommends 8 characters."""


def digest_of(*parts: Any) -> str:
    """The digest of texts, bytes and plain values."""
    made = blake2b(digest_size=_SIZE)
    for part in parts:
        data = part if isinstance(part, bytes) else repr(part).encode("utf-8", "backslashreplace")
        made.update(len(data).to_bytes(8, "little") + data)
    return made.hexdigest()


def digest_of_array(array: Any) -> str:
    """Of an array or tensor: its shape and type, and values from all over it."""
    return digest_of(tuple(array.shape), str(array.dtype), sample(array))


def sample(array: Any) -> Any:
    """Up to :data:`MOST_VALUES` values of an array or tensor, spread evenly. Nothing else is copied."""
    dimensions = len(array.shape)
    if not dimensions:
        return array.tolist()
    along = max(1, int(MOST_VALUES ** (1 / dimensions)))
    steps = tuple(slice(None, None, -(-size // along) or 1) for size in array.shape)
    return array[steps].tolist()


def digest_of_frame(frame: Any, names: list[str], types: list[str], rows: int) -> str:
    """Of a DataFrame: its names, types and number of rows, and rows from all over it."""
    width = max(1, MOST_VALUES // _MOST_ROWS)
    return digest_of(names, types, rows, *_sampled_rows(frame, rows, width))


def _sampled_rows(frame: Any, rows: int, width: int) -> list[Any]:
    step = max(1, -(-rows // _MOST_ROWS))
    if hasattr(frame, "iloc"):
        return list(frame.iloc[::step, :width].itertuples(index=False, name=None))
    if hasattr(frame, "gather_every"):  # polars
        return list(frame[:, :width].gather_every(step).rows())
    return frame.slice(0, _MOST_ROWS).to_pylist()  # type: ignore[no-any-return] # pyarrow


def digest_of_path(path: Path) -> str:
    """Of a file its size and some of its bytes, of a folder the names and sizes in it. Raises ``OSError``."""
    if path.is_dir():
        with os.scandir(path) as entries:
            some = list(itertools.islice(entries, _MOST_ENTRIES))
        sizes = sorted((entry.name, entry.stat().st_size if entry.is_file() else -1) for entry in some)
        return digest_of(sizes)
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        blocks = []
        for start in (0, size // 2, size - _BLOCK):
            file.seek(max(0, start))
            blocks.append(file.read(_BLOCK))
    return digest_of(size, *blocks)
