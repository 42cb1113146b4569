"""Files and folders, claimed as they are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trackside.artifact_names import artifact_folder, joined
from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from trackside.artifact_events import FileEvent, FolderEvent
    from trackside.journal.format import HeldFile
    from trackside.journal.held_files import HeldFiles


def file_record(event: FileEvent, held: HeldFiles) -> ArtifactRecord:
    """Claim the file. Raises :class:`ArtifactError` and ``OSError``."""
    folder = artifact_folder(event.artifact_path)
    path = absolute_path(event.path)
    if path.is_dir():
        raise ArtifactError(f"{shown(path)} is a folder. Use log_artifacts() for all files in it")
    place = joined(folder, path.name)
    return ArtifactRecord(
        0,
        event.timestamp_ms,
        "file",
        place,
        held=hold_path(held, path),
        form="file",
        policy=event.policy,
    )


def folder_record(event: FolderEvent, held: HeldFiles) -> ArtifactRecord:
    """Claim all files under the folder. Raises :class:`ArtifactError` and ``OSError``."""
    place = artifact_folder(event.artifact_path)
    path = absolute_path(event.path)
    if not path.is_dir() and path.exists():
        raise ArtifactError(f"{shown(path)} is not a folder. Use log_artifact() for a file")
    return ArtifactRecord(
        0,
        event.timestamp_ms,
        "folder",
        place,
        held=hold_path(held, path),
        form="file",
        policy=event.policy,
    )


def hold_path(held: HeldFiles, path: Any) -> HeldFile:
    """Claim the file or folder at ``path``. Raises :class:`ArtifactError` and ``OSError``."""
    place = absolute_path(path)
    if place.is_dir():
        return held.hold_folder(place)
    if not place.exists():
        raise ArtifactError(f"there is no file at {shown(place)}. Log it after it is written")
    return held.hold_file(place)


def absolute_path(path: Any) -> Path:
    """``path`` as an absolute path. Raises :class:`ArtifactError`."""
    try:
        text = os.fspath(path)
        return Path(os.path.abspath(os.fsdecode(text)))
    except TypeError:
        raise ArtifactError(f"the path of a file is a text or a Path, not {type(path).__name__}") from None
    except FileNotFoundError:
        raise ArtifactError("the working directory was deleted. Pass an absolute path") from None


def shown(path: Path) -> str:
    """``path`` for a person, masked."""
    return redact(str(path))
