"""Where the parts of one journal lie, and how its directory is made and removed."""

from __future__ import annotations

import contextlib
import logging
import os
import re
import secrets
import shutil
import stat
import time
from pathlib import Path

from trackside.errors import JournalError
from trackside.journal.files import DIRECTORY_MODE, make_private_directory
from trackside.journal.releasing import release_all
from trackside.journal.trust import mark_checked, vouch_for, why_not_yours
from trackside.journal.version import why_newer_file
from trackside.settings import DEFAULT_DIRECTORY
from trackside.system.parent_folder import END_NOTE

logger = logging.getLogger("trackside.journal")

_SEGMENT = re.compile(r"([0-9]{8}|[1-9][0-9]{8,17})\.seg")
_TRIES = 3


class JournalDirectory:
    """The paths of one journal."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path: Path = Path(path).absolute()
        self.name: str = self.path.name
        self.meta: Path = self.path / "meta.json"
        self.delivered: Path = self.path / "delivered.json"
        """What ``meta.json`` becomes once everything is delivered, until the trainer has read the state."""
        self.state: Path = self.path / "state.json"
        self.scoreboard: Path = self.path / "scoreboard"
        self.exit_code: Path = self.path / "exit_code"
        self.wait_status: Path = self.path / END_NOTE
        self.lock: Path = self.path / "shipper.lock"
        self.log: Path = self.path / "shipper.log"
        self.rejected: Path = self.path / "rejected.jsonl"
        self.parent_note: Path = self.path / "parent.json"

    def segment(self, number: int) -> Path:
        """Path of segment ``number``, from 1."""
        return self.path / f"{number:08d}.seg"

    def segment_numbers(self) -> list[int]:
        """Numbers of the segments on disk, ascending. Empty when the directory is gone."""
        try:
            names = os.listdir(self.path)
        except (FileNotFoundError, NotADirectoryError, ValueError):  # ValueError: a name with NUL in it
            return []
        found = (_SEGMENT.fullmatch(name) for name in names)
        return sorted(int(match[1]) for match in found if match)

    def remove_segment(self, number: int) -> None:
        """Delete segment ``number``. A folder in its place stays. Raises ``OSError``."""
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            self.segment(number).unlink()

    def segment_bytes(self) -> int:
        """Bytes all segments take, by their length."""
        total = 0
        for number in self.segment_numbers():
            try:
                total += self.segment(number).stat().st_size
            except FileNotFoundError:  # the shipper deletes acknowledged segments at any time
                continue
        return total

    def cursor(self, destination: str) -> Path:
        """Path of a destination's cursor."""
        return self.path / f"cursor-{destination}.json"

    def cursors(self) -> list[Path]:
        """Paths of all cursors there are."""
        return sorted(self.path.glob("cursor-*.json"))

    def documents(self) -> list[Path]:
        """Paths of the files in JSON that a shipper starts from."""
        return [self.meta, self.state, *self.cursors()]

    def why_newer(self) -> str | None:
        """Why this version leaves it alone, and what to do, as a sentence, or None if it may be used."""
        return next(filter(None, map(why_newer_file, (*self.documents(), self.parent_note))), None)

    def unfit_files(self) -> list[str]:
        """Names of this journal's files that are not regular files. trackside makes no others."""
        segments = [self.segment(number) for number in self.segment_numbers()]
        files = [self.meta, self.state, self.scoreboard, self.exit_code, self.wait_status]
        files += [self.lock, self.log, self.rejected]
        return [path.name for path in [*files, *self.cursors(), *segments] if _is_unfit(path)]

    def mark_delivered(self) -> None:
        """Keep of a delivered journal what its trainer has yet to read: the state and the cursors.

        Without ``meta.json`` it is no journal any more, as if it were gone. Raises ``OSError``.
        """
        release_all(self.path)
        self.meta.rename(self.delivered)
        kept = {self.delivered, self.state, *self.cursors()}
        for path in [path for path in self.path.iterdir() if path not in kept]:
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                with contextlib.suppress(OSError):
                    path.unlink()

    def clear_delivered(self) -> bool:
        """Delete what :meth:`mark_delivered` has kept. Returns whether nothing of the journal is left."""
        if self.delivered.exists():
            self.remove()
        return not self.path.exists()

    def remove(self) -> None:
        """Delete the journal: everything in it has been delivered.

        Claims elsewhere go first, then ``meta.json``. A shipper that locks what is left then sees that the
        journal was delivered.
        """
        if not self.path.is_symlink():
            release_all(self.path)
            with contextlib.suppress(OSError):
                self.meta.unlink()
        for _ in range(_TRIES):  # a shipper that was refused may be writing its last lines into it
            shutil.rmtree(self.path, ignore_errors=True)
            if not self.path.exists():
                break
        if comes_and_goes(self.path.parent):
            with contextlib.suppress(OSError):
                self.path.parent.rmdir()  # only when this was the last journal


def _is_unfit(path: Path) -> bool:
    try:
        return not stat.S_ISREG(path.lstat().st_mode)
    except OSError:  # not there
        return False


def comes_and_goes(root: Path) -> bool:
    """Whether the folder of journals is the default one, removed with the last journal in it.

    A folder that the user chose stays: that it is there tells ``trackside status`` that it was not misspelt.
    """
    return root.name == DEFAULT_DIRECTORY or root.name.startswith(f"{DEFAULT_DIRECTORY}-")


def create_directory(root: str | os.PathLike[str], label: str) -> JournalDirectory:
    """Make a new journal directory under ``root``. Raises :class:`JournalError`."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    slug = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-").lower()[:40] or "run"
    path = Path(root).absolute() / f"{stamp}-{slug}-{secrets.token_hex(3)}"
    for left in reversed(range(_TRIES)):
        try:
            make_private_directory(path.parent)
            path.mkdir(mode=DIRECTORY_MODE)
            break
        except FileNotFoundError as error:  # an ending run removes the root when it is the last one
            if not left:
                raise not_writable(path.parent, error) from error
        except OSError as error:
            raise not_writable(path.parent, error) from error
    mark_checked(path)
    reason = why_not_yours(path)
    if reason is not None:
        vouch_for(path)  # this process has made it, whatever the file system says
        logger.warning(
            "the new journal %s can't be told from another user's work, because %s. It is used for this "
            "run, but `trackside sync` will ask for --trust. To avoid that, set TRACKSIDE_DIR to a folder on "
            "a local disk",
            path,
            reason,
        )
    return JournalDirectory(path)


def not_writable(path: Path, error: OSError) -> JournalError:
    """The error for a place that the journal can't be kept in."""
    return JournalError(
        f"cannot keep the journal in {path}: {error.strerror or error}. "
        "Set TRACKSIDE_DIR to a directory on a disk that can be written and has room"
    )


def last_sign_ms(journal: JournalDirectory) -> int:
    """When the training process last left a mark in the journal, in ms since the epoch. 0 if it never did.

    A store into a mapping counts within the kernel's write-back interval (30 s at most).
    """
    paths = [journal.segment(number) for number in journal.segment_numbers()]
    times = []
    for path in [*paths, journal.exit_code, journal.meta, journal.scoreboard]:
        try:
            times.append(path.stat().st_mtime_ns // 1_000_000)
        except OSError:  # not written, or deleted meanwhile
            continue
    return max(times, default=0)
