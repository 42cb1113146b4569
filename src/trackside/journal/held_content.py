"""The bytes of held files, for whoever delivers them.

Invariants:

* What is read of a journal that you vouched for lies in it, or in a hidden folder that this user's training
  has made: a link in another user's journal never has a file of yours uploaded.
* The original itself is read only for a journal that lies where its training has made it.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from trackside.journal.hidden_folders import TOKEN, is_claim
from trackside.journal.meta import read_meta
from trackside.journal.provenance import folder_number
from trackside.journal.releasing import FILES
from trackside.journal.trust import UntrustedError
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trackside.journal.directory import JournalDirectory
    from trackside.journal.format import HeldFile


def content_of(journal: JournalDirectory, held: HeldFile) -> Path:
    """The file or folder with the bytes of ``held``. Files in it may be links, which are safe to follow.

    Raises ``FileNotFoundError`` if it is gone, :class:`~trackside.journal.trust.UntrustedError` if it is not
    read, and ``OSError``. The texts say what happened.
    """
    entry = _entry(journal, held)
    if stat.S_ISDIR(os.lstat(entry).st_mode):
        for path in files_under(entry):
            _check(journal, path)
    else:
        _check(journal, entry)
    return entry


def fingerprint(journal: JournalDirectory, held: HeldFile) -> tuple[int, int]:
    """The bytes of ``held`` as they are now, and when they were last written to. Raises ``OSError``."""
    entry = _entry(journal, held)
    statuses = [os.stat(path) for path in files_under(entry)]
    return sum(status.st_size for status in statuses), max(
        (status.st_mtime_ns for status in statuses), default=0
    )


def files_under(path: Path) -> Iterator[Path]:
    """``path``, or all files in the folder that it is."""
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        for name in sorted(names):
            yield Path(folder, name)
        # os.walk() does not go into them, and no training makes them.
        yield from (Path(folder, name) for name in folders if os.path.islink(os.path.join(folder, name)))


def _entry(journal: JournalDirectory, held: HeldFile) -> Path:
    folder = journal.path / FILES
    if TOKEN.fullmatch(held.name) is None or folder.is_symlink():
        raise UntrustedError(errno.EPERM, "not read, because no training makes such an entry", held.name)
    entry = folder / held.name
    if not os.path.lexists(entry):
        raise _gone(held.source, "It is not in the journal any more")
    return entry


def _check(journal: JournalDirectory, path: Path) -> None:
    """Raise ``OSError`` unless ``path`` may be read, and is there."""
    status = os.lstat(path)
    if stat.S_ISLNK(status.st_mode):
        target = Path(os.readlink(path))
        if not is_claim(target) and not _is_at_home(journal):
            raise UntrustedError(
                errno.EPERM,
                "not read, because the journal was copied here, or another user made it. Copy it with "
                "`cp -rL` or `rsync -aL` to bring its files along",
                redact(str(target)),
            )
        try:
            status = os.lstat(target)
        except FileNotFoundError:
            raise _gone(str(target), "It was deleted, or its disk is not here") from None
    if not stat.S_ISREG(status.st_mode):
        raise UntrustedError(errno.EPERM, "not read, because it is no ordinary file", redact(str(path)))


def _is_at_home(journal: JournalDirectory) -> bool:
    meta = read_meta(journal)
    return meta is not None and meta.folder is not None and meta.folder == folder_number(journal.path)


def _gone(path: str, why: str) -> FileNotFoundError:
    return FileNotFoundError(errno.ENOENT, why, redact(path))
