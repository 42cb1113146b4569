"""Which format a journal is in. What a newer trackside wrote is left as it is, and you are told.

Files in JSON, lines of the dead-letter file and notes from one process to another name their format
in ``schema``. ``meta.json`` speaks for the segments and for everything that the training process writes, and
``state.json`` for everything that a shipper writes. Segments and documents change apart, so a training
process still understands the shipper of a trackside that is installed meanwhile.

Invariants:

* A file without ``schema`` is in the first format.
* Nothing in a later format is decoded, delivered, replaced or removed. A journal with one such file is left
  alone as a whole (``JournalDirectory.why_newer``).
"""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

import msgspec

from trackside.errors import JournalError
from trackside.journal import lossless_json
from trackside.journal.opening import MAX_STATE, read_file
from trackside.system.once import Once
from trackside.text import printable

if TYPE_CHECKING:
    from pathlib import Path

logger = logging.getLogger("trackside.journal")

FIRST_FORMAT = 1
FORMAT = 4
"""The format of the journals that this version begins. It reads all formats from the first to this one."""

DOCUMENT_FORMAT = 1
"""The format of the documents that this version puts into a journal, whatever that one's format is."""

_LONGEST = 20
"""Characters of an unknown format that are shown."""

_told = Once()


class _Stamp(msgspec.Struct):
    schema: Any = FIRST_FORMAT


def stamped(document: bytes) -> bytes:
    """``document``, a JSON object that is not empty, with its format in front."""
    return b'{"schema":%d,%s' % (DOCUMENT_FORMAT, document[1:])


def is_known(schema: object) -> bool:
    """Whether this version reads the format ``schema``."""
    return type(schema) is int and FIRST_FORMAT <= schema <= FORMAT


def newer_format(data: bytes) -> str | None:
    """The format of the JSON document ``data`` if it is not one that this version reads, or None if it is."""
    try:
        found = lossless_json.decode(data, _Stamp).schema
    except (ValueError, msgspec.MsgspecError, RecursionError):  # damaged, or no object
        return None
    return None if is_known(found) else printable(str(found))[:_LONGEST]


def why_newer_file(path: Path, limit: int = MAX_STATE) -> str | None:
    """Why this version does not use the file ``path``, and what to do, as a sentence, or None if it may."""
    try:
        found = newer_format(read_file(path, limit))
    except (OSError, ValueError):  # ValueError: a name with NUL in it
        return None
    return None if found is None else _reason(path, found)


def require_known(path: Path) -> None:
    """Raise :class:`JournalError` for a file in a newer format, which must not be replaced."""
    reason = why_newer_file(path)
    if reason is not None:
        raise JournalError(f"{path.parent}: {reason}")


def is_newer(path: Path, data: bytes) -> bool:
    """Whether ``data``, the contents of ``path``, is in a newer format. Warns of it once."""
    found = newer_format(data)
    if found is not None and _told.is_first(str(path)):
        logger.warning("%s is not read: %s", path, _reason(path, found))
    return found is not None


def _reason(path: Path, found: str) -> str:
    name = os.path.basename(path)
    return (
        f"{name} is in journal format {found}, and this version of trackside reads formats up to {FORMAT}. "
        "Install a newer trackside to use it"
    )
