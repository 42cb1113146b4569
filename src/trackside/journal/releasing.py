"""Letting go of held files: one by one as they are delivered, and all of them with their journal.

Invariant: outside of the journal, only claims in the journal's own hidden folders are removed. The original
of a file is never touched.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from trackside.journal.hidden_folders import TOKEN, is_own_claim, remove_claim

FILES = "files"
"""The journal's folder with an entry for each held file."""


def release(journal: Path, name: str) -> None:
    """Remove the entry ``name`` of the journal in the folder ``journal``, with its claims.

    What can't be removed now goes with the journal.
    """
    if TOKEN.fullmatch(name) is not None and not os.path.islink(journal / FILES):
        _remove(journal, journal / FILES / name)


def release_all(journal: Path) -> None:
    """Remove all held files of the journal in the folder ``journal``."""
    for name in entries(journal):
        release(journal, name)


def entries(journal: Path) -> list[str]:
    """The names of all entries."""
    folder = journal / FILES
    if folder.is_symlink():
        return []
    try:
        return sorted(name for name in os.listdir(folder) if TOKEN.fullmatch(name))
    except OSError:
        return []


def _remove(journal: Path, entry: Path) -> None:
    with contextlib.suppress(OSError):
        for path in _files_under(entry):
            if path.is_symlink():
                target = Path(os.readlink(path))
                if is_own_claim(target, journal):
                    remove_claim(target)
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _files_under(entry: Path) -> list[Path]:
    """The files of an entry, links included, which are not followed."""
    if entry.is_symlink() or not entry.is_dir():
        return [entry]
    return [Path(folder, name) for folder, _, names in os.walk(entry) for name in names]
