"""The file that is delivered, made of what is held."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trackside.errors import RejectedError

if TYPE_CHECKING:
    from pathlib import Path

    from trackside.journal.format import ArtifactRecord


def finished(record: ArtifactRecord, content: Path, folder: Path) -> Path:  # noqa: ARG001 - forms to come
    """The file of ``record``, ready to be delivered. What has to be made is made in ``folder``.

    ``content`` itself where it is ready. Raises :class:`RejectedError` for bytes that can't be encoded.
    """
    if record.form in {"", "file"}:
        return content
    raise RejectedError(f"this version of trackside can't encode {record.form!r}")
