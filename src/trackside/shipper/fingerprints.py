"""Whether a file or a folder is written to: what its files look like, without reading them."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

Fingerprint: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Of each file its path, size, time of the last write and inode."""


def fingerprint(content: Path) -> Fingerprint:
    """What tells whether ``content``, a file or a folder, was written to. Raises ``OSError``."""
    status = os.stat(content)
    if not stat.S_ISDIR(status.st_mode):
        return (_of("", status),)
    found = []
    for root, _, names in os.walk(content, followlinks=True):
        found += [_of(os.path.join(root, name), os.stat(os.path.join(root, name))) for name in names]
    return tuple(sorted(found))


def _of(path: str, status: os.stat_result) -> tuple[str, int, int, int]:
    return path, status.st_size, status.st_mtime_ns, status.st_ino
