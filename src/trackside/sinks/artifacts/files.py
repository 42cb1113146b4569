"""Files and folders, claimed as they are."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from trackside.artifact_events import UploadPolicy
from trackside.artifact_names import artifact_folder, joined, names_below
from trackside.errors import ArtifactError
from trackside.journal.format import ArtifactRecord
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from trackside.artifact_events import FileEvent, FolderEvent
    from trackside.journal.format import HeldFile
    from trackside.journal.held_files import HeldFiles

POLICIES: tuple[str, ...] = get_args(UploadPolicy)


def file_record(event: FileEvent, held: HeldFiles) -> ArtifactRecord:
    """Claim the file. Raises :class:`ArtifactError` and ``OSError``."""
    folder, policy = artifact_folder(event.artifact_path), checked_policy(event.policy)
    path = absolute_path(event.path)
    if path.is_dir():
        raise ArtifactError(f"{shown(path)} is a folder. Use log_artifacts() for all files in it")
    place = joined(folder, path.name)
    return ArtifactRecord(
        0,
        event.timestamp_ms,
        "file",
        place,
        held=held.hold_file(path),
        form="file",
        policy=policy,
    )


def folder_record(event: FolderEvent, held: HeldFiles) -> ArtifactRecord:
    """Claim all files under the folder. Raises :class:`ArtifactError` and ``OSError``."""
    place, policy = artifact_folder(event.artifact_path), checked_policy(event.policy)
    path = absolute_path(event.path)
    if not path.is_dir():
        if path.exists():
            raise ArtifactError(f"{shown(path)} is not a folder. Use log_artifact() for a file")
        raise ArtifactError(f"there is no folder at {shown(path)}. Log it after it is written")
    return ArtifactRecord(
        0,
        event.timestamp_ms,
        "folder",
        place,
        held=hold_path(held, path, place),
        form="file",
        policy=policy,
    )


def hold_path(held: HeldFiles, path: Any, place: str = "") -> HeldFile:
    """Claim the file or folder at ``path``, which goes to ``place`` in the run.

    Raises :class:`ArtifactError` and ``OSError``.
    """
    found = absolute_path(path)
    if not found.is_dir():
        return held.hold_file(found)
    return held.hold_folder(found, partial(names_below, place))


def checked_policy(policy: Any) -> str:
    """``policy``, if it is one. Raises :class:`ArtifactError`."""
    if policy not in POLICIES:
        raise ArtifactError(f"policy={policy!r} is not one of {', '.join(map(repr, POLICIES))}")
    return str(policy)


def absolute_path(path: Any) -> Path:
    """``path`` as an absolute path. Raises :class:`ArtifactError`."""
    try:
        text = os.fsdecode(path)
    except TypeError:
        raise ArtifactError(f"the path of a file is a text or a Path, not {type(path).__name__}") from None
    if not text or "\0" in text:
        raise ArtifactError(f"{text!r} can't be the path of a file")
    try:
        return Path(os.path.abspath(text))
    except FileNotFoundError:
        raise ArtifactError(
            f"{text!r} is relative to the working directory, which was deleted. Pass an absolute path"
        ) from None


def shown(path: Path) -> str:
    """``path`` for a person, masked."""
    return repr(redact(str(path)))
