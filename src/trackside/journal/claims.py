"""Claims on files: a copy of a small one, a hard link to a large one, else a note of where it lies."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from trackside.errors import ArtifactError
from trackside.system.files import write_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

COPY = "copy"
LINK = "link"
ORIGINAL = "original"

SMALL = 64 * 1024
"""Bytes. A file up to this size is copied in the call."""


class Claim(NamedTuple):
    """How a file is held, its bytes, and when it was last written to."""

    way: str
    size: int
    changed_ns: int


def claim_file(source: Path, entry: Path) -> Claim:
    """Have what ``source`` is now at ``entry``. Raises ``OSError``."""
    status = os.stat(source)
    if not stat.S_ISREG(status.st_mode):
        raise ArtifactError(f"{source} is not a file")
    if status.st_size <= SMALL:
        _copy(source, entry)
        return Claim(COPY, status.st_size, status.st_mtime_ns)
    way = LINK
    try:
        os.link(os.path.realpath(source), entry)
    except OSError:
        way = ORIGINAL
    return Claim(way, status.st_size, status.st_mtime_ns)


def claim_folder(source: Path, entry: Path, leave_out: Callable[[str, str], None]) -> Claim:
    """Have all files under ``source`` under ``entry``. Raises ``OSError``."""
    entry.mkdir(0o700)
    size, changed_ns, way = 0, 0, COPY
    for folder, _, names in os.walk(source):
        below = entry / os.path.relpath(folder, source)
        below.mkdir(0o700, exist_ok=True)
        for name in names:
            try:
                claim = claim_file(source.__class__(folder, name), below / name)
            except (OSError, ArtifactError) as error:
                leave_out(os.path.join(folder, name), str(error))
            else:
                size += claim.size
                changed_ns = max(changed_ns, claim.changed_ns)
                way = claim.way if claim.way != COPY else way
    return Claim(way, size, changed_ns)


def _copy(source: Path, entry: Path) -> None:
    with open(source, "rb", buffering=0) as file:
        content = file.read(SMALL + 1)
    descriptor = os.open(entry, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        write_all(descriptor, content, 0)
    finally:
        os.close(descriptor)
