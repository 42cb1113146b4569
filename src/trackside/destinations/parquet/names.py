"""The names of part files say which rows of a run they hold. Pure.

``<journal>-<destination>-<first>-<end>.parquet`` holds the rows from ``first`` up to, not including,
``end``, counted from the run's beginning in the order in which they were emitted. So what is on disk can
be compared with what was acknowledged, whatever a crash has left.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

_PART = re.compile(r"(?P<key>.+)-(?P<first>\d{12})-(?P<end>\d{12})\.parquet")


class Part(NamedTuple):
    """A part file of the run called ``key``."""

    key: str
    first: int
    end: int

    @property
    def name(self) -> str:
        """The file's name."""
        return f"{self.key}-{self.first:012d}-{self.end:012d}.parquet"

    @property
    def rows(self) -> int:
        """How many rows it holds."""
        return self.end - self.first


def parts_of(key: str, names: Iterable[str]) -> list[Part]:
    """Those of ``names`` that are part files of ``key``."""
    found = (_PART.fullmatch(name) for name in names)
    return [Part(key, int(m["first"]), int(m["end"])) for m in found if m and m["key"] == key]


class Cover(NamedTuple):
    """What to do with the parts that were found: ``keep`` them in this order, then ``cut`` one."""

    keep: list[Part]
    cut: Part | None
    """Holds rows behind those that were acknowledged. The ones before them are needed."""

    @property
    def end(self) -> int:
        """How many rows the kept parts hold."""
        return self.keep[-1].end if self.keep else 0


def cover(parts: Iterable[Part], rows: int) -> Cover:
    """The parts that make up the first ``rows`` rows, each row once.

    Where a long part holds the rows of several short ones (a crash while they were put together), the
    long one counts. What is neither kept nor cut is to be removed.
    """
    keep: list[Part] = []
    end = 0
    for part in sorted(parts, key=lambda part: (part.first, -part.end)):
        if part.first != end or not part.rows or end >= rows:
            continue
        if part.end > rows:
            return Cover(keep, part)
        keep.append(part)
        end = part.end
    return Cover(keep, None)
