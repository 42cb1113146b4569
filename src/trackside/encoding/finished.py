"""The file that is delivered, made of what is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.encoding.animations import FRAMES, animation_file
from trackside.encoding.documents import DOCUMENT, document_file
from trackside.encoding.histograms import HISTOGRAM
from trackside.encoding.pixels import PIXELS, image_file
from trackside.encoding.plots import PLOTLY, plotly_file
from trackside.encoding.tables import ROWS, table_file
from trackside.errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from trackside.journal.format import ArtifactRecord

_MAKERS: dict[str, Callable[[ArtifactRecord, Path, Path], Path]] = {
    DOCUMENT: document_file,
    PIXELS: image_file,
    PLOTLY: plotly_file,
    FRAMES: animation_file,
}
"""What makes the file of each form, from the record, what is held, and a folder for the file."""

_MAKERS_ALONE: dict[str, Callable[[ArtifactRecord, Path | None, Path], Path]] = {
    ROWS: table_file,
    HISTOGRAM: image_file,
}
"""The same of the forms that may need nothing but the record."""


def finished(record: ArtifactRecord, content: Path | None, folder: Path) -> Path:
    """The file of ``record``, ready to be delivered. What has to be made is made in ``folder``.

    ``content`` itself where it is ready, and None where the record says it all. Of a table only the rows of
    this record. Raises :class:`RejectedError` for bytes that can't be encoded.
    """
    make_alone = _MAKERS_ALONE.get(record.form)
    if make_alone is not None:
        return make_alone(record, content, folder)
    if content is None:
        raise RejectedError(f"the {record.kind} {record.place!r} has no contents")
    if record.form in {"", "file"}:
        return content
    make = _MAKERS.get(record.form)
    if make is not None:
        return make(record, content, folder)
    raise RejectedError(f"this version of trackside can't encode {record.form!r}")
