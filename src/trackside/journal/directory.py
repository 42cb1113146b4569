"""Where the parts of one journal lie, and how its directory and small files are made.

Directories are 0700 and files 0600: a run's configuration is nobody else's business. Small JSON files
are replaced whole by a rename, so a reader sees the old one or the new one.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import time
from pathlib import Path
from typing import TypeVar

import msgspec

from trackside.errors import JournalError

DIRECTORY_MODE = 0o700
FILE_MODE = 0o600
_SEGMENT = re.compile(r"(\d{8,})\.seg")

_T = TypeVar("_T")


class JournalDirectory:
    """The paths of one journal."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.name = self.path.name
        self.meta = self.path / "meta.json"
        self.state = self.path / "state.json"
        self.scoreboard = self.path / "scoreboard"
        self.exit_code = self.path / "exit_code"
        self.lock = self.path / "shipper.lock"
        self.log = self.path / "shipper.log"
        self.rejected = self.path / "rejected.jsonl"

    def segment(self, number: int) -> Path:
        """Path of segment ``number``, from 1."""
        return self.path / f"{number:08d}.seg"

    def segment_numbers(self) -> list[int]:
        """Numbers of the segments on disk, ascending; empty when the directory is gone."""
        try:
            names = os.listdir(self.path)
        except FileNotFoundError:
            return []
        found = (_SEGMENT.fullmatch(name) for name in names)
        return sorted(int(match[1]) for match in found if match)

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

    def remove(self) -> None:
        """Delete the journal: everything in it has been delivered."""
        shutil.rmtree(self.path, ignore_errors=True)
        try:
            self.path.parent.rmdir()  # only when this was the last journal
        except OSError:
            return


def create_directory(root: str | os.PathLike[str], label: str) -> JournalDirectory:
    """Make a new journal directory under ``root``; raise :class:`JournalError` when that can't be."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
    slug = re.sub(r"[^A-Za-z0-9]+", "-", label).strip("-").lower()[:40] or "run"
    path = Path(root).absolute() / f"{stamp}-{slug}-{secrets.token_hex(3)}"
    try:
        path.parent.mkdir(mode=DIRECTORY_MODE, parents=True, exist_ok=True)
        path.mkdir(mode=DIRECTORY_MODE)
    except OSError as error:
        msg = f"cannot create the journal in {path.parent}: {error.strerror}; set TRACKSIDE_DIR to a writable directory"
        raise JournalError(msg) from error
    return JournalDirectory(path)


def last_sign_ms(journal: JournalDirectory) -> int:
    """When the training process last left a mark in the journal; ms since the epoch, 0 for none.

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


def write_atomically(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replace ``path`` by ``data`` in one step; ``durable`` survives a power cut once this returns."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, FILE_MODE)
    try:
        os.write(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    os.replace(temporary, path)
    if durable:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make renames and deletions in ``path`` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_json(path: Path, kind: type[_T]) -> _T | None:
    """Decode ``path`` as ``kind``; None when it isn't there or isn't what it should be."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except (OSError, msgspec.MsgspecError):
        return None
