"""Why a shipper that died did so, as far as its log and its exit code tell."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from trackside.journal.opening import read_tail
from trackside.redaction.redact import redact

if TYPE_CHECKING:
    from pathlib import Path

_CAUSE = 300
_LAST_LINES = 4096


class ShipperLog:
    """The log ``path``, which one shipper after another writes to."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = 0

    def mark(self) -> None:
        """Another shipper is about to start: what is in the log by now is not its own."""
        self._before = self._size()

    def last_words(self) -> str:
        """The last line that the latest shipper has left."""
        with contextlib.suppress(OSError):
            own = max(0, self._size() - self._before)
            written = read_tail(self._path, min(own, _LAST_LINES))
            lines = [line.strip() for line in written.decode(errors="replace").splitlines()]
            return redact(next((line for line in reversed(lines) if line), ""))[:_CAUSE]
        return ""

    def _size(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0


def describe_exit(code: int | None) -> str:
    """How a shipper ended, in words."""
    if code is None:
        return "its exit code is not known"
    return f"signal {-code}" if code < 0 else f"exit code {code}"
