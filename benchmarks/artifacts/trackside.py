"""trackside, into a sqlite store with local artifacts."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.artifacts.base import Calls, Library
from benchmarks.artifacts.things import FIGURE, FILE, HISTOGRAM, IMAGE, KINDS, LARGE_FILE, TABLE, TEXT
from benchmarks.store import URI

if TYPE_CHECKING:
    from collections.abc import Iterator

_said: list[str] = []


class _Said(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        if "is not logged" in record.getMessage():
            _said.append(record.getMessage())


@contextmanager
def _open() -> Iterator[Calls]:
    import trackside

    logging.getLogger("trackside").addHandler(_Said(logging.WARNING))
    with trackside.start("bench", tracking_uri=URI) as run:
        yield {
            IMAGE: lambda image, step: run.log_image(image, key="samples", step=step),
            FIGURE: lambda figure, step: run.log_figure(figure, key="plot", step=step),
            TABLE: lambda table, _step: run.log_table(table, "table.json"),
            HISTOGRAM: lambda values, step: run.log_histogram(values, "weights", step),
            TEXT: lambda text, step: run.log_text(text, f"texts/{step}.txt"),
            FILE: lambda path, step: run.log_artifact(path, f"files/{step}"),
            LARGE_FILE: lambda path, _step: run.log_artifact(path, "files"),
        }


def _check() -> None:
    if _said:
        raise RuntimeError(_said[0])


LIBRARY = Library(_open, frozenset(KINDS), _check)
