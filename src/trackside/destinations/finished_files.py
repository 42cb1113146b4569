"""The file of an artifact, made for one delivery and removed after it."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from trackside.encoding.finished import finished
from trackside.errors import RejectedError
from trackside.journal.files import make_private_directory

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from trackside.destinations.context import DestinationContext
    from trackside.journal.format import ArtifactRecord


def made_folder(context: DestinationContext) -> Path:
    """Where files are made for one delivery. It is there while :func:`finished_file` is in use."""
    return context.journal / f"{context.name}-made"


@contextmanager
def finished_file(
    context: DestinationContext, record: ArtifactRecord, content: Path | None
) -> Iterator[Path]:
    """Give the file of ``record``, ready to be delivered, or the folder of a folder.

    What has to be made is made in the journal's directory, and removed at the end of the block. Raises
    :class:`RejectedError` for what can't be encoded, and for a file that is gone.
    """
    if content is not None and not content.exists():
        raise RejectedError(f"the {record.kind} {record.place!r} is gone from this machine")
    folder = made_folder(context)
    make_private_directory(folder)
    try:
        yield finished(record, content, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
