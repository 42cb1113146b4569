"""Fill what room there is, make some, and continue. Print what happened.

usage: fill_disk.py disk|limit DIRECTORY MODE

``disk``: DIRECTORY is on a small disk, nearly filled by a file ``ballast`` that is then removed.
``limit``: files may be 600,000 bytes large at most (RLIMIT_FSIZE), then as large as they like.
MODE: ``mapped``, or ``written`` where neither mmap nor fallocate work.
"""

import contextlib
import errno
import json
import logging
import mmap
import os
import resource
import sys

from trackside.journal import writer as writer_module
from trackside.journal.cursor import Cursor, load_cursor, save_cursor
from trackside.journal.directory import create_directory
from trackside.journal.format import MetricsRecord
from trackside.journal.reader import JournalReader
from trackside.journal.scoreboard import read_dropped
from trackside.journal.writer import JournalWriter

how, root, mode = sys.argv[1:]
warnings: list[str] = []


class Listing(logging.Handler):
    """Keeps what is logged."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text."""
        warnings.append(record.getMessage())


def unsupported(*_: object) -> None:
    """Stand in for a call that the file system doesn't know."""
    raise OSError(errno.EOPNOTSUPP, "not supported")


def sample(step: int) -> MetricsRecord:
    """About 1.4 kB."""
    return MetricsRecord(0, 1, step, None, None, {f"m{n}": n / 3 for n in range(100)})


def fill_up() -> None:
    """Leave half a megabyte of the disk, or a limit for each file."""
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (600_000, resource.RLIM_INFINITY))
        return
    with open(f"{root}/ballast", "wb", buffering=0) as ballast, contextlib.suppress(OSError):
        while free() > 1_300_000:
            ballast.write(bytes(65536))


def make_room() -> None:
    """The opposite."""
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        os.unlink(f"{root}/ballast")


def free() -> int:
    """Bytes left on the disk."""
    status = os.statvfs(root)
    return status.f_bavail * status.f_frsize


logging.getLogger("trackside").addHandler(Listing())
writer_module.RETRY_AFTER = 0.0
if mode == "written":
    mmap.mmap = unsupported  # type: ignore[assignment,misc]
    os.posix_fallocate = unsupported

fill_up()
journal = create_directory(root, "x")
cursor_path = journal.cursor("x")
save_cursor(cursor_path, Cursor(), durable=True)
writer = JournalWriter(journal)
kept: list[int] = []
refused = 0
step = 0
limit = 3_000 if how == "limit" else 10**9
while refused < 200 and step < limit:
    step += 1
    if writer.append(sample(step)):
        kept.append(step)
    else:
        refused += 1
full_warnings = list(warnings)
dropped = read_dropped(journal.scoreboard)

if how == "disk":  # not a byte left
    with open(f"{root}/last", "wb", buffering=0) as last, contextlib.suppress(OSError):
        while True:
            last.write(bytes(4096))
cursor = Cursor(shipped=12345)
save_cursor(cursor_path, cursor, durable=True)  # must work, or nothing can be deleted
cursor_kept = load_cursor(cursor_path) == cursor

make_room()
for _ in range(300):
    step += 1
    if writer.append(sample(step)):
        kept.append(step)
reader = JournalReader(journal)
read: list[int] = []
while entries := reader.read():
    read += [e.record.step for e in entries if isinstance(e.record, MetricsRecord)]
print(
    json.dumps(
        {
            "kept": len(kept),
            "same": read == kept,
            "lost": reader.damaged + reader.missing + reader.torn,
            "refused": refused,
            "dropped": dropped,
            "warnings": full_warnings,
            "later": warnings[len(full_warnings) :],
            "cursor_kept": cursor_kept,
            "after": kept[-1] == step,
        }
    )
)
