"""What a row of W&B shows beside numbers: pictures, histograms, tables, sounds, videos, pages.

W&B copies the file of a medium into the run's folder when it is logged. A row of the transaction log says
where the copy is, so that a restarted shipper can log the same medium again.
"""

from __future__ import annotations

import json
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from trackside.destinations.media import ending_of, picture_type
from trackside.encoding.tables import rows_of
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from trackside.journal.format import ArtifactRecord

PICTURES = {"png": ".png", "jpeg": ".jpg", "gif": ".gif", "bmp": ".bmp", "webp": ".webp"}
"""Kinds of picture, and the ending of their files."""

VIDEOS = {".mp4", ".webm", ".gif", ".ogg"}
"""``wandb.Video.EXTS``."""

SOUNDS = {".wav", ".mp3", ".ogg", ".flac", ".m4a", ".opus"}

MAX_BINS = 512
"""``wandb.Histogram.MAX_LENGTH``."""


def histogram(wandb: Any, record: ArtifactRecord) -> Any:
    """The distribution of ``record``. Raises :class:`RejectedError` if it has none."""
    try:
        edges = [float(edge) for edge in record.details["edges"]]
        counts = [float(count) for count in record.details["counts"]]
        while len(counts) > MAX_BINS:  # two neighbours become one
            counts = [sum(counts[start : start + 2]) for start in range(0, len(counts), 2)]
            edges = [*edges[:-1:2], edges[-1]]
        return wandb.Histogram(np_histogram=(counts, edges))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise RejectedError(f"the histogram {record.place!r} can't be read: {error!r}") from error


def table(wandb: Any, record: ArtifactRecord, content: Path | None) -> Any:
    """The rows of ``record``. Raises :class:`RejectedError` if it has none, and ``OSError``."""
    if content is not None and not content.exists():
        raise RejectedError(f"rows of the table {record.place!r} are gone from this machine")
    found = rows_of(record, content)
    return _table(wandb, found.columns, found.rows)


def ending_for(record: ArtifactRecord, path: Path) -> str:
    """How the name of the medium's file has to end, because W&B tells by that what it is.

    Empty for what W&B has no word for.
    """
    ending = ending_of(record, path)
    if record.kind in {"image", "figure"}:
        with open(path, "rb") as file:
            known = PICTURES.get(picture_type(file.read(16)) or "")
        return known or (ending if ending == ".html" else "")
    known_endings = VIDEOS if record.kind == "video" else SOUNDS
    return ending if ending in known_endings else ""


def from_file(wandb: Any, kind: str, path: Path) -> Any:
    """The medium in the file at ``path``, whose name has the right ending."""
    if path.suffix == ".html":
        return _page(wandb, path)
    of_kind = {"audio": wandb.Audio, "video": wandb.Video}
    return of_kind.get(kind, wandb.Image)(str(path))


def _page(wandb: Any, path: Path) -> Any:
    with open(path, encoding="utf-8") as file:
        return wandb.Html(file, inject=False)


def _table(wandb: Any, columns: Any, rows: Any) -> Any:
    # Mixed types: a column of a training's table may have text in one row, and a number in the next.
    return wandb.Table(
        columns=columns, data=[[_cell(cell) for cell in row] for row in rows], allow_mixed_types=True
    )


def _cell(cell: Any) -> Any:
    return json.dumps(cell, ensure_ascii=False) if isinstance(cell, (dict, list)) else cell


def again(wandb: Any, value: Any, folder: Path) -> Any:
    """``value`` of a row, as it can be logged again. Media are read from the old run's ``folder``.

    Anything else is returned as it is, and so is what can't be read any more.
    """
    make = _AGAIN.get(value.get("_type")) if isinstance(value, dict) else None
    if make is None:
        return value
    try:
        return make(wandb, value, folder)
    except (OSError, KeyError, TypeError, ValueError):
        return value


def _file(value: dict[str, Any], folder: Path) -> Path:
    relative = PurePosixPath(value["path"])
    if relative.is_absolute() or ".." in relative.parts:
        raise ValueError(value["path"])
    return folder / relative


def _table_again(wandb: Any, value: dict[str, Any], folder: Path) -> Any:
    found = json.loads(_file(value, folder).read_text("utf-8"))
    return _table(wandb, found["columns"], found["data"])


_AGAIN: dict[Any, Callable[[Any, dict[str, Any], Path], Any]] = {
    "image-file": lambda wandb, value, folder: wandb.Image(str(_file(value, folder))),
    "audio-file": lambda wandb, value, folder: wandb.Audio(str(_file(value, folder))),
    "video-file": lambda wandb, value, folder: wandb.Video(str(_file(value, folder))),
    "html-file": lambda wandb, value, folder: _page(wandb, _file(value, folder)),
    "table-file": _table_again,
    "histogram": lambda wandb, value, _folder: wandb.Histogram(np_histogram=(value["values"], value["bins"])),
}
