"""Whether a file that MLflow's own client has uploaded is there, and is the same.

A copy in a local folder is compared byte by byte, which takes a quarter of the time of copying it, up to the
size that the system's cache of the disk holds. What lies elsewhere is looked up in its folder's list, by its
size. Checksums on the way are the store's: boto3 sends one with each request to S3, and S3 refuses what
differs (https://docs.aws.amazon.com/sdkref/latest/guide/feature-dataintegrity.html).
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from trackside.errors import RetryableError

logger = logging.getLogger("trackside.destinations")

LISTED = 1_000_000
"""Bytes from which on an uploaded file is looked up in its folder's list."""

COMPARED = 1 << 28
"""Bytes up to which a local copy is compared."""

_PIECE = 1 << 20


def check_stored(repository: Any, source: Path, artifact_file: str) -> None:
    """Raise :class:`RetryableError` if MLflow's ``repository`` shows another file than ``source``."""
    size = source.stat().st_size
    local = getattr(repository, "artifact_dir", None)
    if isinstance(local, str):
        copy = Path(local, artifact_file)
        require_size(artifact_file, size, copy.stat().st_size)
        if size <= COMPARED and not _are_same(source, copy):
            raise RetryableError(f"{artifact_file} was copied, and its copy differs")
    elif size >= LISTED:
        _look_up(repository, artifact_file, size)


def require_size(name: str, size: int, found: int | None) -> None:
    """Raise :class:`RetryableError` if ``found`` is known and not ``size``."""
    if found not in {None, size}:
        raise RetryableError(f"{name} has {size} bytes, and the run shows {found} of them")


def require_listed(name: str, size: int, found: Any) -> None:
    """Raise :class:`RetryableError` unless ``found``, what a list says of the file, is of that size."""
    if found is None:
        raise RetryableError(f"{name} was uploaded, and the run does not show it")
    require_size(name, size, found.file_size)


def _look_up(repository: Any, artifact_file: str, size: int) -> None:
    folder = artifact_file.rpartition("/")[0]
    try:
        listed = list(repository.list_artifacts(folder or None))
    except Exception as error:  # it may be that it can be written, and not listed
        logger.info("%s can't be looked up: %s", artifact_file, type(error).__name__)
        return
    found = next((item for item in listed if item.path == artifact_file), None)
    require_listed(artifact_file, size, found)


def _are_same(source: Path, copy: Path) -> bool:
    with source.open("rb", buffering=0) as one, copy.open("rb", buffering=0) as other:
        while True:
            piece = one.read(_PIECE)
            if piece != _read(other, len(piece)):
                return False
            if not piece:
                return True


def _read(file: Any, size: int) -> bytes:
    """As many bytes, which a read may give in pieces."""
    data = b""
    while len(data) < size:
        piece = file.read(size - len(data))
        if not piece:
            break
        data += piece
    return data
