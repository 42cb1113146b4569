"""MLflow's own calls, into a sqlite store with local artifacts. It has none for a histogram."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from benchmarks.artifacts.base import Calls, Library
from benchmarks.artifacts.things import FIGURE, FILE, HISTOGRAM, IMAGE, KINDS, LARGE_FILE, TABLE, TEXT
from benchmarks.store import URI

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _open() -> Iterator[Calls]:
    import mlflow

    mlflow.set_tracking_uri(URI)
    with mlflow.start_run():
        yield {
            IMAGE: lambda image, step: mlflow.log_image(image, key="samples", step=step),
            FIGURE: lambda figure, step: mlflow.log_figure(figure, f"plots/{step}.png"),
            TABLE: lambda table, _step: mlflow.log_table(table, "table.json"),
            TEXT: lambda text, step: mlflow.log_text(text, f"texts/{step}.txt"),
            FILE: lambda path, step: mlflow.log_artifact(str(path), f"files/{step}"),
            LARGE_FILE: lambda path, _step: mlflow.log_artifact(str(path), "files"),
        }


LIBRARY = Library(_open, frozenset(KINDS) - {HISTOGRAM})
