"""W&B, offline. A text alone has no place in it."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from benchmarks.artifacts.base import Calls, Library
from benchmarks.artifacts.things import FIGURE, FILE, HISTOGRAM, IMAGE, KINDS, LARGE_FILE, TABLE, TEXT

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def _open() -> Iterator[Calls]:
    import wandb

    def table(columns: dict[str, list[Any]]) -> Any:
        rows = [list(row) for row in zip(*columns.values(), strict=True)]
        return wandb.Table(columns=[*columns], data=rows)

    with wandb.init(project="bench", mode="offline") as run:
        yield {
            IMAGE: lambda image, step: run.log({"samples": wandb.Image(image)}, step=step),
            FIGURE: lambda figure, step: run.log({"plot": wandb.Image(figure)}, step=step),
            TABLE: lambda columns, step: run.log({"table": table(columns)}, step=step),
            HISTOGRAM: lambda values, step: run.log({"weights": wandb.Histogram(values)}, step=step),
            FILE: lambda path, _step: run.log_artifact(str(path), name="file", type="file"),
            LARGE_FILE: lambda path, _step: run.log_artifact(str(path), name="file", type="file"),
        }


LIBRARY = Library(_open, frozenset(KINDS) - {TEXT})
